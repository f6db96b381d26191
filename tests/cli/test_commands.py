# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line as a whole: its help, its examples, other names of commands, mistakes."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from fusenotify import cli
from fusenotify.cli.commands import ALIASES, COMMANDS, EXAMPLES, GROUPS

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ALL_EXAMPLES = [*EXAMPLES, *(line for each in COMMANDS.values() for line in each.examples)]


@pytest.fixture
def fusenotify(capsys: pytest.CaptureFixture[str]) -> Run:
    """What runs the command in this process, which starts much sooner."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        try:
            status = cli.main([*map(str, arguments)])
        except SystemExit as end:
            status = int(end.code or 0)
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run


def test_the_help_has_each_command_once_in_its_group(fusenotify: Run) -> None:
    done = fusenotify("--help")
    assert (done.returncode, done.stderr) == (0, "")
    sections = {part.split(":\n")[0]: part for part in done.stdout.split("\n\n")}
    for name, command in COMMANDS.items():
        assert f"\n  {name} " in sections[GROUPS[command.group]]
        assert done.stdout.count(f"\n  {name} ") == 1
    assert done.stdout.count("umount") == 1
    assert "\n  fusenotify mount SOURCE MNT\n" in sections["examples"]


@pytest.mark.parametrize("arguments", [["help"], ["-h"]], ids=" ".join)
def test_there_are_other_words_for_help(arguments: list[str], fusenotify: Run) -> None:
    assert fusenotify(*arguments).stdout == fusenotify("--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example_of_its_own(name: str) -> None:
    _, commands = cli.parsers()
    cli.configure(name, commands[name])
    said = commands[name].format_help()
    assert said.startswith(f"usage: fusenotify {name} ")
    (first, *_) = said[said.index("\nexamples:\n  ") :].splitlines()[2:]
    assert f"fusenotify {name}" in first


@pytest.mark.parametrize("line", ALL_EXAMPLES)
def test_examples_are_right_usage(line: str) -> None:
    # Some are a part of a shell's own command line.
    ours = re.search(r"fusenotify [^|)]*", line)
    assert ours is not None
    _, name, *_ = words = shlex.split(ours[0])
    program, commands = cli.parsers()
    cli.configure(name, commands[name])
    program.parse_args(words[1:])


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_it_tells_its_version(word: str, fusenotify: Run) -> None:
    assert fusenotify(word).stdout == f"fusenotify {metadata.version('fusenotify')}\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("moutn", "did you mean 'mount'?"),
        ("statsu", "did you mean 'status'?"),
        ("umonut", "did you mean 'umount'?"),
        ("frob", "'fusenotify --help' lists the commands"),
        ("\x1b[2J", "'fusenotify --help' lists the commands"),
    ],
)
def test_a_mistyped_command_gets_a_suggestion(name: str, hint: str, fusenotify: Run) -> None:
    done = fusenotify(name, "--frob")
    assert done.stderr.endswith(f"error: there is no command {name!a}; {hint}\n")
    assert (done.returncode, done.stdout) == (2, "")


def test_without_a_command_it_shows_the_help_as_a_mistake(fusenotify: Run) -> None:
    done = fusenotify()
    assert done.stderr == fusenotify("--help").stdout
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("alias", ALIASES)
def test_another_name_does_the_same(alias: str, tmp_path: Path, fusenotify: Run) -> None:
    mine, other = fusenotify(ALIASES[alias], tmp_path), fusenotify(alias, tmp_path)
    assert mine.stderr.startswith(f"fusenotify: {tmp_path}: no fusenotify mount is there")
    assert (other.stderr, other.returncode) == (mine.stderr, mine.returncode)
