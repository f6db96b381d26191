# SPDX-License-Identifier: GPL-2.0-or-later
"""Patterns of what is not told: git's own verdict, names of any bytes, and no freeze."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from fusenotify.engine import exclusion
from fusenotify.engine.exclusion import MOST_PATTERNS, Exclusion
from fusenotify.errors import InvalidPattern, NoPatterns


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
        pytest.param([b"*"] * (MOST_PATTERNS + 1), "1001 patterns, of at most 1000", id="too many"),
        pytest.param(
            [b"*a*b*c*d*e" * 20 + b"%d" % n for n in range(300)],
            "too much for one watch",
            id="an automaton that is too large",
        ),
    ],
)
def test_a_pattern_that_does_not_compile_is_named(patterns: list[bytes], said: str) -> None:
    with pytest.raises(InvalidPattern) as refusal:
        Exclusion(patterns)
    assert said in str(refusal.value)


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
def test_what_is_taken_back_is_one_name() -> None:
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


def test_verdicts_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusion, "REMEMBERED", 1000)
    patterns = Exclusion([b"1*"])
    for number in range(1000):
        assert patterns.excludes(b"%d" % number, False) is str(number).startswith("1")
        assert len(patterns._verdicts) <= 1000
