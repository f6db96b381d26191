# SPDX-License-Identifier: GPL-2.0-or-later
"""``fusenotify completion SHELL``: print a script with which a shell completes commands.

shtab makes it from the parsers of all commands.  The kinds of arguments that the parsers do not
describe are found here by metavar: mount points are read from /proc/mounts at each completion,
and lists of words are completed after each comma.  A wheel has the same scripts, as files where
shells look for them (hatch_build.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

import shtab

from fusenotify.cli.inotify_tools import EVENTS
from fusenotify.cli.words import Settings
from fusenotify.mounting.options import KNOWN_OPTIONS

SHELLS = ("bash", "zsh", "fish")

# How shtab completes one kind of argument: a function for each shell, and its definition.
_Completed = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    parser.epilog = (
        'A line for ~/.bashrc: eval "$(fusenotify completion bash)". The same with zsh stands in '
        "~/.zshrc, after compinit. A line for config.fish: fusenotify completion fish | source."
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the script of a shell."""
    print(script(arguments.shell))
    return 0


def script(shell: str) -> str:
    """Return the script that a shell evaluates, or loads from a file."""
    from fusenotify.cli import configured_parsers

    program, parsers = configured_parsers()
    for name, parser in parsers.items():
        for action in _arguments(parser):
            called = str(action.metavar)
            # A future mount point is an ordinary directory.
            kind = _DIRECTORY if (name, called) == ("mount", "MNT") else _KINDS.get(called)
            if kind is not None:
                action.complete = kind  # type: ignore[attr-defined]
    return shtab.complete(program, shell)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _arguments(below)


def _list_of(name: str, words: Iterable[str]) -> _Completed:
    """Return how a list of words is completed; name is a part of the functions' names."""
    text = " ".join(sorted(words))
    return {
        "bash": f"_fusenotify_{name}",
        "zsh": f"_values -s , {name} {text}",
        "fish": f"(_fusenotify_behind_comma {text})",
        "preamble": {
            "bash": f"""
_fusenotify_{name}() {{
  compgen -P "${{1%"${{1##*,}}"}}" -W "{text}" -- "${{1##*,}}"
}}""",
            "fish": """
function _fusenotify_behind_comma
  set -l before (commandline -ct | string replace -r '[^,]*$' '')
  for word in $argv
    echo $before$word
  end
end""",
        },
    }


# bash quotes the results of functions whose names contain "_dir", as shtab arranges it.
_MOUNTS: _Completed = {
    "bash": "_fusenotify_dirs_of_mounts",
    "zsh": "_fusenotify_mounts",
    "fish": "(_fusenotify_mounts)",
    "preamble": {
        "bash": r"""
_fusenotify_dirs_of_mounts() {
  local source target type rest word=${1//\\/}
  while read -r source target type rest; do
    [[ $type == fuse.fusenotify ]] || continue
    printf -v target %b "$target"
    [[ $target == "$word"* ]] && printf '%s\n' "$target"
  done </proc/mounts
  [[ $word ]] && compgen -d -- "$word"
}""",
        "zsh": r"""
_fusenotify_mounts() {
  local source target type rest
  local -a mounts
  while read -r source target type rest; do
    [[ $type == fuse.fusenotify ]] && mounts+=("${(g:o:)target}")
  done </proc/mounts
  compadd -f -a mounts
  _files -/
}""",
        "fish": r"""
function _fusenotify_mounts
  while read -l source target type rest
    test "$type" = fuse.fusenotify; and string unescape -- $target
  end </proc/mounts
  __fish_complete_directories (commandline -ct)
end""",
    },
}
_FILE: _Completed = dict(shtab.FILE)
_DIRECTORY: _Completed = dict(shtab.DIRECTORY)
# By metavars.
_KINDS = {
    "MNT": _MOUNTS,
    "SOURCE": _DIRECTORY,
    "PATH": _FILE,
    "FILE": _FILE,
    "EVENT[,EVENT...]": _list_of("events", [word.decode().lower() for word in EVENTS]),
    "OPTION[,OPTION...]": _list_of("options", [*KNOWN_OPTIONS, *Settings().names()]),
}
