# SPDX-License-Identifier: GPL-2.0-or-later
"""Patterns of what is not told: git's own verdict, names of any bytes, and no freeze."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from fusenotify.engine import exclusion, time_share
from fusenotify.engine.exclusion import (
    MOST_LISTS,
    MOST_PATTERNS,
    Exclusion,
    Exclusions,
)
from fusenotify.engine.time_share import SHARE, OutOfTime
from fusenotify.errors import InvalidPattern, NoPatterns, TooManyExclusions


@pytest.mark.parametrize(
    ("patterns", "path", "is_dir", "excluded"),
    [
        pytest.param([b"*.o"], b"a/b.o", False, True, id="a name is excluded everywhere"),
        pytest.param([b"/b"], b"a/b", False, False, id="a slash in front: here only"),
        pytest.param([b"b/"], b"b", False, False, id="a slash behind: no file"),
        pytest.param([b"b/"], b"b", True, True, id="a slash behind: a directory"),
        pytest.param([b"b/"], b"a/b/c/d", False, True, id="all below an excluded directory"),
        pytest.param([b"*.o", b"!k.o"], b"a/k.o", False, False, id="an exclusion is taken back"),
        pytest.param(
            [b"b", b"!b/c"], b"b/c", False, True, id="but not below an excluded directory"
        ),
        pytest.param([b"a/**/z"], b"a/b/c/z", False, True, id="two stars cross directories"),
        pytest.param([b"?"], b"\xff", False, True, id="a byte that is no text is one character"),
        pytest.param([b"\xe9*"], b"\xe9\xff", False, True, id="patterns may be bytes of any kind"),
        pytest.param([b"# a", b""], b"# a", False, False, id="comments and empty lines are none"),
        pytest.param([], b"a", False, False, id="no pattern excludes nothing"),
    ],
)
def test_verdicts(patterns: list[bytes], path: bytes, is_dir: bool, excluded: bool) -> None:
    exclusion = Exclusion(patterns)
    assert exclusion.excludes(path, is_dir) is excluded
    assert exclusion.excludes(path, is_dir) is excluded, "the second verdict is from memory"


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        pytest.param([b"*.o", b"a\\"], "the pattern 'a\\'", id="a backslash with nothing behind"),
        pytest.param([b"!"], "the pattern '!'", id="nothing is taken back"),
        pytest.param([b"*"] * (MOST_PATTERNS + 1), "1001 patterns: at most 1000", id="too many"),
        pytest.param([b"a" * 8193], "8193 bytes of patterns: at most 8192", id="too long"),
    ],
)
def test_a_pattern_that_does_not_compile_is_named(patterns: list[bytes], said: str) -> None:
    with pytest.raises(InvalidPattern) as refusal:
        Exclusion(patterns)
    assert said in str(refusal.value)


def test_an_automaton_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusion, "MOST_PATTERN_BYTES", 1 << 20)
    with pytest.raises(InvalidPattern, match="too much for one watch"):
        Exclusion([b"*a*b*c*d*e" * 20 + b"%d" % n for n in range(300)])


def test_the_verdicts_are_those_of_git(tmp_path: Path) -> None:
    draw = random.Random(5)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    for _ in range(40):
        pieces = ["a", "b", "c", "*", "?", "**", "/", "/", "*.c", "[ab]"]
        patterns = [
            "".join(draw.choices(pieces, k=draw.randint(1, 4))) for _ in range(draw.randint(1, 4))
        ]
        patterns = [pattern for pattern in patterns if "***" not in pattern]
        (tmp_path / ".gitignore").write_text("".join(f"{line}\n" for line in patterns))
        names = ["a", "b", "c", "x.c"]
        paths = {"/".join(draw.choices(names, k=draw.randint(1, 4))) for _ in range(30)}
        answer = subprocess.run(
            ["git", "-C", tmp_path, "check-ignore", "--no-index", "--stdin"],
            input="\n".join(sorted(paths)),
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        try:
            ours = Exclusion([os.fsencode(pattern) for pattern in patterns])
        except InvalidPattern:
            continue
        found = {path for path in paths if ours.excludes(os.fsencode(path), False)}
        assert found == set(answer.stdout.split()), patterns


@pytest.mark.xfail(reason="pathspec lets a class that says what it is not match a slash")
def test_a_class_matches_no_slash() -> None:
    assert not Exclusion([b"?[!a]"]).excludes(b"b", True)


@pytest.mark.xfail(reason="pathspec takes back what is below a name that is taken back, too")
def test_a_negated_pattern_matches_one_name() -> None:
    assert Exclusion([b"c", b"!a"]).excludes(b"a/c", True)


def test_a_pattern_made_to_backtrack_holds_nobody_up() -> None:
    # By backtracking this takes longer than anybody lives.
    assert not Exclusion([b"*a" * 40 + b"b"]).excludes(b"a" * 250, False)


def test_without_the_libraries_patterns_are_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exclusion, "_HAS_LIBRARIES", False)
    with pytest.raises(NoPatterns, match="pip install"):
        Exclusion([b"*.o"])


# Made so that one name takes a tenth of a second.
SLOW = [b"*%c?%c?*%d" % (97 + k % 26, 97 + k // 26, k % 10) for k in range(600)]


def test_matching_takes_a_share_of_the_thread_and_no_more() -> None:
    letters = b"abcdefghijklmnopqrstuvwxyz0123"
    draw = random.Random(5)
    slow = Exclusion(SLOW)
    refused = 0
    began, cpu = time.monotonic(), time.thread_time()
    for _ in range(1000):  # minutes, if all were matched
        try:
            slow.excludes(bytes(draw.choices(letters, k=250)), False)
        except OutOfTime:
            refused += 1
    taken, passed = time.thread_time() - cpu, time.monotonic() - began
    assert refused > 900
    assert taken < 2 + SHARE * passed


def test_no_name_is_matched_that_would_take_long() -> None:
    with pytest.raises(OutOfTime):
        Exclusion([b"a" * 4096]).excludes(b"a" * 2000, False)


def test_no_deep_path_is_judged_for_long() -> None:
    deep = Exclusion([b"*%d" % k for k in range(300)])
    with pytest.raises(OutOfTime):
        deep.excludes(b"/".join([b"a"] * 1000) * 2, False)


def test_equal_patterns_of_a_user_are_compiled_once_and_a_user_has_so_many_lists() -> None:
    users = Exclusions()
    lists = [users.of(1, [b"%d" % n]) for n in range(MOST_LISTS)]
    assert users.of(1, [b"0"]) is lists[0]
    with pytest.raises(TooManyExclusions):
        users.of(1, [b"x"])
    assert users.of(2, [b"0"]) is not lists[0]
    del lists[1:]
    users.of(1, [b"x"])


def test_a_user_whose_patterns_took_long_to_compile_waits_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time_share, "BURST", 0.0)  # a fast machine takes less than the real one
    users = Exclusions()
    assert not users.wait(1, SLOW)
    slow = users.of(1, SLOW)
    assert users.wait(1, [b"a"])
    assert not users.wait(1, SLOW), "what is compiled takes no time"
    assert not users.wait(2, [b"a"])
    assert slow.patterns == tuple(SLOW)


def test_users_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusion, "_MOST_USERS", 10)
    users = Exclusions()
    kept = users.of(1, [b"a"])
    for uid in range(2, 100):
        users.of(uid, [b"a"])
    assert len(users._users) <= 11
    assert users.of(1, [b"a"]) is kept


def test_verdicts_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusion, "REMEMBERED", 10_000)
    patterns = Exclusion([b"1*"])
    for number in range(1000):
        assert patterns.excludes(b"%d" % number, False) is str(number).startswith("1")
        assert len(patterns._verdicts) <= 50
