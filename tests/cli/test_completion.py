# SPDX-License-Identifier: GPL-2.0-or-later
"""Shells complete the command line, by what ``fusenotify completion`` prints."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusenotify import mounted
from tests.cli.command import fusenotify
from tests.cli.terminal import OnTerminal

# How an interactive shell is started without its user's files, and told to complete.
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        'eval "$(python -m fusenotify completion bash)"; bind "set bell-style none"',
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -U compinit; compinit -u -D; unsetopt prompt_sp; "
        'eval "$(python -m fusenotify completion zsh)"',
    ),
    "fish": (
        ["fish", "--no-config", "--interactive"],
        "function fish_prompt; echo '$ '; end; python -m fusenotify completion fish | source",
    ),
}
# What is typed before the tab key, and what stands there afterwards, but for a space or a comma.
COMPLETED = {
    "fusenotify unm": "fusenotify unmount",
    "fusenotify mount --exclu": "fusenotify mount --exclusive",
    "fusenotify wait -e create,close_n": "fusenotify wait -e create,close_nowrite",
    "fusenotify mount -o ro,max_user_tr": "fusenotify mount -o ro,max_user_trees=",
    "fusenotify mount --access ex": "fusenotify mount --access exact",
    "fusenotify fault /mnt dis": "fusenotify fault /mnt disconnect",
}


@pytest.fixture(scope="module", params=SHELLS)
def shell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnTerminal]:
    """An interactive shell that completes fusenotify, in an empty directory."""
    command, prepare = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    home = tmp_path_factory.mktemp("home")
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    with OnTerminal(command, width=300, PATH=path, HOME=str(home), PS1="$ ") as terminal:
        terminal.type(f"cd {home}; {prepare}; echo rea''dy\n".encode())
        # With the prompt behind it, the shell has taken over from the terminal's own echo.
        terminal.shows("\nready\n$")
        yield terminal


@pytest.mark.parametrize("typed", COMPLETED)
def test_typed_words_are_completed(shell: OnTerminal, typed: str) -> None:
    assert on_tab(shell, typed).rstrip(" ,") == COMPLETED[typed]


@pytest.mark.mount
def test_mount_points_are_completed_whatever_is_in_their_names(
    shell: OnTerminal, tmp_path: Path
) -> None:
    for name in ("source", "a mount"):
        (tmp_path / name).mkdir()
    with mounted(tmp_path / "source", tmp_path / "a mount"):
        found = on_tab(shell, f"fusenotify limits {tmp_path}/a")
    assert found.rstrip(" /") == rf"fusenotify limits {tmp_path}/a\ mount"


def test_another_shell_is_refused_by_the_names_of_those_there_are() -> None:
    done = fusenotify("completion", "tcsh")
    assert "invalid choice: 'tcsh' (choose from " in done.stderr
    assert done.returncode == 2


def on_tab(shell: OnTerminal, typed: str) -> str:
    """Return the command line after the tab key was hit, and leave an empty one."""
    # The shell reads one key after the other: at the "%%" the completion is there.
    shell.type(f"{typed}\t%%".encode())
    text = shell.until(lambda text: "%%" in text, "the tab is answered")
    shell.type(b"\x15\x0c")  # take the line away, and clear the screen
    shell.until(lambda text: "%%" not in text, "the line is empty")
    (line,) = re.findall(r"fusenotify .*(?=%%)", text)
    return str(line)
