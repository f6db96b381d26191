# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of libc that inotify-tools use: options, patterns, times.

getopt_long(3) permutes arguments, accepts abbreviated names and prints what is
wrong with options; regcomp(3) compiles POSIX extended regular expressions;
strftime(3) takes bytes.  Python has no equivalents.  All arguments are bytes, and
the locale is the one that the caller set ("C").
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# Linux: regex.h, the same in glibc and musl.
_REG_EXTENDED, _REG_ICASE, _REG_NOSUB = 1, 2, 8
# Linux: getopt.h.
_NO_ARGUMENT, _REQUIRED_ARGUMENT = 0, 1
# getopt_long returns numbers from here on for options without a letter.
_WITHOUT_LETTER = 256
# The bytes for a regex_t or a struct tm: several times as many as any libc needs.
_ROOM = 1024
# The length of the longest time that inotify-tools print, in bytes.
_LONGEST_TIME = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.regexec.argtypes = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_int,
)
_libc.strftime.restype = ctypes.c_size_t


class Option(NamedTuple):
    """An option: its letter or "", its name, the name of its argument or "", and its help.

    An option without help is not shown in the help.
    """

    letter: str
    name: str
    argument: str = ""
    help: str = ""


class BadOption(Exception):
    """An option is wrong; libc has printed on stderr what is wrong."""


class _LongOption(ctypes.Structure):
    """Linux: struct option."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("has_arg", ctypes.c_int),
        ("flag", ctypes.c_void_p),
        ("val", ctypes.c_int),
    )


class Arguments:
    """The arguments of a program; program is its name in messages.

    Iterating yields each option's name with its argument, or b"", in order; after
    that, rest has the other arguments.

    Iterating raises BadOption at an option that does not exist, lacks its argument
    or has an argument that it does not take.
    """

    def __init__(self, program: str, arguments: Sequence[bytes], options: Sequence[Option]) -> None:
        self._argv = (ctypes.c_char_p * (len(arguments) + 2))(program.encode(), *arguments, None)
        self._options = {
            ord(option.letter) if option.letter else _WITHOUT_LETTER + number: option
            for number, option in enumerate(options)
        }
        letters = [option.letter + ":" * bool(option.argument) for option in options]
        self._letters = "".join(filter(lambda each: each.strip(":"), letters)).encode()
        self._table = (_LongOption * (len(options) + 1))(
            *[
                _LongOption(
                    option.name.encode(),
                    _REQUIRED_ARGUMENT if option.argument else _NO_ARGUMENT,
                    None,
                    value,
                )
                for value, option in self._options.items()
            ]
        )
        self.rest: list[bytes] = []

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        argument = ctypes.c_char_p.in_dll(_libc, "optarg")
        index = ctypes.c_int.in_dll(_libc, "optind")
        index.value = 0  # start from the beginning
        count = len(self._argv) - 1
        while True:
            value = _libc.getopt_long(count, self._argv, self._letters, self._table, None)
            if value == -1:
                break
            option = self._options.get(value)
            if option is None:
                raise BadOption
            yield option.name, argument.value or b""
        self.rest = [word for word in self._argv[index.value : count] if word is not None]


class Pattern:
    """A POSIX extended regular expression.

    Raises ValueError if it is invalid.
    """

    def __init__(self, pattern: bytes, *, ignore_case: bool) -> None:
        self._compiled = (ctypes.c_uint64 * (_ROOM // 8))()
        flags = _REG_EXTENDED | _REG_NOSUB | (_REG_ICASE if ignore_case else 0)
        if _libc.regcomp(self._compiled, pattern, flags):
            raise ValueError("not a regular expression")

    def matches(self, text: bytes) -> bool:
        """Return whether the pattern is found in text."""
        return not _libc.regexec(self._compiled, text, 0, None, 0)


def formatted_time(text: bytes) -> bytes:
    """Return the present local time in a format of strftime(3); b"" if it would be too long."""
    now = ctypes.c_long(int(time.time()))
    broken_down = (ctypes.c_uint64 * (_ROOM // 8))()
    _libc.localtime_r(ctypes.byref(now), broken_down)
    found = ctypes.create_string_buffer(_LONGEST_TIME)
    length = _libc.strftime(found, ctypes.c_size_t(_LONGEST_TIME), text, broken_down)
    return found.raw[:length]
