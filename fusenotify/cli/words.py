# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of ``-o``: split, told apart, checked, and listed by ``-o help``.

cli.mount's option -o is TakeWords.  Words that are settings of ours (cli.mount_settings) go where
their option goes, as if the option stood there; those of every FUSE mount and of every mount
(mounting.options) are kept as words.

Invariant
    A setting's word is made from its option: it has the option's name, values, checks and help.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from fusenotify.cli.mount_settings import declare
from fusenotify.mounting.options import (
    FUSE_MEANINGS,
    GENERAL_MEANINGS,
    KNOWN_OPTIONS,
    check_values,
    unknown_options,
)

_WIDTH = 96
_INDENT = 28


class _Declared(argparse.ArgumentParser):
    """Has the settings and nothing else, and remembers which they are."""

    def __init__(self) -> None:
        self.by_word: dict[str, argparse.Action] = {}
        super().__init__(add_help=False, allow_abbrev=False, exit_on_error=False)
        declare(self)

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        action = super().add_argument(*args, **kwargs)
        if action.help != argparse.SUPPRESS:
            self.by_word[_as_word(_option_of(action))] = action
        return action


class Settings:
    """The settings of a mount, as words."""

    def __init__(self) -> None:
        self._parser = _Declared()

    def names(self) -> list[str]:
        """Return the words; those with a value end in "="."""
        return [
            word if action.nargs == 0 else f"{word}="
            for word, action in self._parser.by_word.items()
        ]

    def has(self, word: str) -> bool:
        """Return whether it is a setting's name, with a value or without."""
        return word.partition("=")[0] in self._parser.by_word

    def take(self, word: str, namespace: argparse.Namespace) -> str:
        """Do what the option does; return the name by which namespace has it.

        Raises ValueError that says what is wrong.
        """
        name, equals, value = word.partition("=")
        action = self._parser.by_word[name]
        try:
            self._parser.parse_args([f"{_option_of(action)}{equals}{value}"], namespace)
        except argparse.ArgumentError as error:
            if action.nargs == 0:
                raise ValueError(f"'{word}': it takes no value") from None
            if not equals:
                form = f"{name}={_value(action)}"
                raise ValueError(f"'{word}': a value is missing, as in {form}") from None
            raise ValueError(f"'{word}': {error.message}") from None
        return action.dest

    def meanings(self) -> dict[str, str]:
        """Return the words as they are written, and what they mean."""
        return {
            _written(word, action): (action.help or "")
            % {**vars(action), "prog": "fusenotify mount"}
            for word, action in self._parser.by_word.items()
        }


class TakeWords(argparse.Action):
    """``-o WORD[,WORD...]``: settings take effect, the other words are appended to dest.

    The words of settings are also appended to said.  Unknown words are refused, or
    dropped where the arguments before it set sloppy.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        settings = Settings()
        said = list(getattr(namespace, "said", ()))
        others = []
        try:
            for word in split(str(values)):
                if word == "help":
                    sys.stdout.write(listing())
                    sys.stdout.flush()
                    parser.exit()
                if settings.has(word):
                    settings.take(word, namespace)
                    said.append(word)
                else:
                    others.append(word)
            check_values(others)
            unknown = unknown_options(others)
            if getattr(namespace, "sloppy", False):
                others = [word for word in others if word not in unknown]
            elif unknown:
                raise ValueError(_refusal(unknown[0], settings))
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *others])
        namespace.said = said


def split(text: str) -> list[str]:
    """Return the words of a list.

    A value with a comma is put in quotation marks, as mount(8) has it (``socket="/a,b"``), or
    its commas behind backslashes, as FUSE has it (``socket=/a\\,b``, where ``\\\\`` is a
    backslash).

    Raises ValueError where a quotation mark is missing.
    """
    words = [""]
    quoted = False
    position = 0
    while position < len(text):
        character = text[position]
        following = text[position + 1 : position + 2]
        if quoted and character == '"' and following in ("", ","):
            quoted = False
        elif not quoted and character == '"' and words[-1].endswith("="):
            quoted = True
        elif not quoted and character == "\\" and following in (",", "\\"):
            words[-1] += following
            position += 1
        elif not quoted and character == ",":
            words.append("")
        else:
            words[-1] += character
        position += 1
    if quoted:
        raise ValueError(f"'{words[-1]}': the second quotation mark is missing")
    return [word for word in words if word]


def listing() -> str:
    """Return all words with what they mean, for people."""
    groups = {
        "Settings of fusenotify; each is also an option, as --max-queued-events 64": (
            Settings().meanings()
        ),
        "Words of FUSE": FUSE_MEANINGS,
        "Words that mount(8) has for every filesystem": {
            **GENERAL_MEANINGS,
            "x-*, X-*": "nothing: for mount(8), systemd and other programs",
        },
    }
    return "\n".join(
        f"{heading}:\n" + "".join(_entry(word, meaning) for word, meaning in group.items())
        for heading, group in groups.items()
    )


def _entry(word: str, meaning: str) -> str:
    lines = textwrap.wrap(meaning, _WIDTH - _INDENT, break_on_hyphens=False)
    begin = f"  {word}"
    if len(begin) + 2 > _INDENT:
        return "\n".join([begin, *(" " * _INDENT + line for line in lines)]) + "\n"
    first, *others = lines or [""]
    return "\n".join([f"{begin:<{_INDENT}}{first}", *(" " * _INDENT + o for o in others)]) + "\n"


def _refusal(word: str, settings: Settings) -> str:
    known = {form.rstrip("="): form for form in [*KNOWN_OPTIONS, *settings.names()]}
    name = word.partition("=")[0].replace("-", "_")
    similar = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    hint = f"did you mean '{known[similar[0]]}'? " if similar else ""
    return f"unknown option '{word}'; {hint}'fusenotify mount -o help' lists all"


def _option_of(action: argparse.Action) -> str:
    return next(option for option in action.option_strings if option.startswith("--"))


def _as_word(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _written(word: str, action: argparse.Action) -> str:
    """Return a word as people write it, with what stands for its value."""
    if action.nargs == 0:
        return word
    return f"{word}[={_value(action)}]" if action.nargs == "?" else f"{word}={_value(action)}"


def _value(action: argparse.Action) -> str:
    """Return what stands behind the word: "N", or the choices there are."""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())
