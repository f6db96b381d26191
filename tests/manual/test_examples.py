# SPDX-License-Identifier: GPL-2.0-or-later
"""Every example of README.md and docs/ is run, as its page shows it."""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from fusenotify import Mounted, cli
from tests.conftest import PLUGIN, REPOSITORY, USERS_PYPROJECT
from tests.manual import programs
from tests.manual.pages import Block, blocks, of_kind, parse, paths
from tests.manual.sessions import Shell, matched, steps


def pages_with(kind: str) -> list[str]:
    return sorted({block.page for block in of_kind(kind)})


def by_place(*kinds: str) -> list[object]:
    return [pytest.param(block, id=block.place) for block in of_kind(*kinds)]


@pytest.mark.mount
@pytest.mark.parametrize("page", pages_with("session"))
def test_the_sessions_of_a_page_print_what_is_shown(
    page: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("s")  # its name is short, as the paths of sockets have to be
    with Shell(place) as shell:
        for block in blocks(page):
            if block.kind == "file":
                (place / "work" / block.notes["file"]).write_text(block.text)
            elif block.kind == "session":
                shell.run(block)


@pytest.mark.mount
@pytest.mark.parametrize("block", by_place("program"))
def test_a_program_runs(block: Block, mounted: Mounted) -> None:
    programs.run(block, mounted)


@pytest.mark.mount
@pytest.mark.parametrize("page", pages_with("test"))
def test_the_tests_of_a_page_pass(
    page: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_PLUGINS", ",".join(PLUGIN))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makepyprojecttoml(USERS_PYPROJECT)
    tests = [block.text for block in blocks(page) if block.kind == "test"]
    pytester.makepyfile(**{f"test_example_{number}": code for number, code in enumerate(tests)})
    expected = sum(code.count("def test_") for code in tests)
    pytester.runpytest().assert_outcomes(passed=expected)


@pytest.mark.parametrize("block", by_place("interactive"))
def test_an_interactive_session_goes_as_shown(block: Block) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, {}, block.place, block.page, block.line)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("block", by_place("commands"))
def test_commands_are_commands(block: Block) -> None:
    """A shell parses them, the command line ours, and the project's modules exist."""
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["fusenotify"] and not {"|", "&&", ">"} & set(words):
            cli._parse([word for word in words[1:] if word != "&"])
        if module := re.search(r"python -m (tests\.[\w.]+)", line):
            assert importlib.util.find_spec(module[1]), line


def test_every_block_is_of_a_kind_and_none_is_left_out_without_a_reason() -> None:
    for page in paths():
        for block in blocks(page):
            assert not block.wrong, f"{block.place}: {block.wrong}"
            if block.kind in ("not run", "run by"):
                assert len(block.notes[block.kind]) > 8, block.place
            if block.kind == "run by":
                assert Path(REPOSITORY, block.notes["run by"]).is_file()


@pytest.mark.parametrize(
    ("shown", "printed", "is_so"),
    [
        ("a\nb", "a\nb", True),
        ("a", "a\nb", False),
        ("a\nb", "a", False),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a\n...", "a", True),
        ("...\nd", "a\nb", False),
        ("pid ... ends", "pid 12 ends", True),
        ("pid 1", "pid 2", False),
    ],
)
def test_shown_output_matches_printed_output(shown: str, printed: str, is_so: bool) -> None:
    assert matched(shown.splitlines(), printed.splitlines(), False) == is_so


def test_numbers_may_vary() -> None:
    assert matched(["took  12 ms of 1,000"], ["took 1.5 ms of 27"], True)
    assert not matched(["took 12 ms"], ["took a ms"], True)


def test_a_session_is_cut_into_steps() -> None:
    first, second = steps("$ cat <<E\n> a\n> E\na\n> b\n$ true\n")
    assert (first.command, first.shown) == ("cat <<E\na\nE", ["a", "> b"])
    assert (second.command, second.shown) == ("true", [])


@pytest.mark.parametrize(
    "text",
    [
        "    indented\n",
        "```cobol\nSTOP RUN.\n```\n",
        "<!-- no run: a slip -->\n```sh\nls\n```\n",
        "<!-- not run: nothing behind -->\ntext\n",
    ],
)
def test_a_block_that_is_not_written_as_agreed_is_wrong(text: str) -> None:
    (block,) = parse("page", text)
    assert block.wrong
    assert block.kind == "wrong"
