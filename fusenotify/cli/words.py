# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of ``-o``: splitting, distinguishing, checking, and the list of ``-o help``.

The option -o of cli.mount is TakeWords.  Words for our own settings (cli.mount_settings) have the
effect of their option, as if the option had been given instead; words that all FUSE mounts or all
mounts have (mounting.options) are kept as words.

Invariant
    The word of a setting is made from its option, with the option's name, values, checks and help.
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
    """A parser that has only the settings, and remembers them by word."""

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
        """Return whether word is the name of a setting, with or without a value."""
        return word.partition("=")[0] in self._parser.by_word

    def take(self, word: str, namespace: argparse.Namespace) -> str:
        """Do what the option does; return the name of its value in namespace.

        Raises ValueError, which says what is wrong.
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
        """Return the words in the form in which they are written, with their meanings."""
        return {
            _written(word, action): (action.help or "")
            % {**vars(action), "prog": "fusenotify mount"}
            for word, action in self._parser.by_word.items()
        }


class TakeWords(argparse.Action):
    """``-o WORD[,WORD...]``: settings take effect, the other words are appended to dest.

    The words of settings are also appended to said.  Unknown words are refused, or are
    dropped if earlier arguments set sloppy.
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

    A value with a comma is put in quotation marks, as for mount(8) (``socket="/a,b"``), or its
    commas are preceded by backslashes, as for FUSE (``socket=/a\\,b``, where ``\\\\`` is a
    backslash).

    Raises ValueError if a quotation mark is missing.
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
    """Return all words with their meanings, for people."""
    groups = {
        "Settings of fusenotify; each is also an option, such as --max-queued-events 64": (
            Settings().meanings()
        ),
        "Words of FUSE": FUSE_MEANINGS,
        "Words that mount(8) has for every filesystem": {
            **GENERAL_MEANINGS,
            "x-*, X-*": "no effect (for mount(8), systemd and other programs)",
        },
    }
    lists = [
        f"{heading}:\n" + "".join(_entry(word, meaning) for word, meaning in group.items())
        for heading, group in groups.items()
    ]
    return "\n".join([*lists, 'A value with a comma needs quotation marks: socket="/run/a,b".\n'])


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
    return f"unknown option '{word}'; {hint}'fusenotify mount -o help' lists all options"


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
    """Return the name of the word's value, such as "N", or its choices."""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())
