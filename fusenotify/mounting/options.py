# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of ``-o``: which there are, and what ours mean.

cli.mount checks them, mounting.daemon hands them on.  Most words are FUSE's and go to libfuse,
fusermount3 and the kernel, which refuse what the user may not have; some are carried out here,
as libfuse's own filesystems do.
"""

from __future__ import annotations

from collections.abc import Iterable

# Those with a value end in "=".
KNOWN_OPTIONS = frozenset(
    [
        "acl",
        "allow_other",
        "allow_root",
        "async",
        "atime",
        "auto_unmount",
        "context=",
        "debug",
        "default_permissions",
        "dev",
        "dirsync",
        "exec",
        "fsname=",
        "gid=",
        "noatime",
        "nodev",
        "noexec",
        "nonempty",
        "nosuid",
        "ro",
        "rw",
        "subtype=",
        "suid",
        "sync",
        "uid=",
        "umask=",
    ]
)
# Words of which the last one counts.
_OPPOSITES = (
    ("ro", "rw"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("sync", "async"),
    ("atime", "noatime"),
)
# Not for libfuse: we carry them out.  It always mounts over what is there.
_OURS = ("acl", "gid", "nonempty", "subtype", "uid", "umask")
_SUBTYPE = "fusenotify"
_MAX_ID = 0xFFFFFFFE


def unknown_options(options: Iterable[str]) -> list[str]:
    """Return the -o words that no mount understands."""
    return [
        option
        for option in options
        if option and "".join(option.partition("=")[:2]) not in KNOWN_OPTIONS
    ]


def value_of(options: Iterable[str], name: str) -> int | None:
    """Return the number that uid=, gid= or umask= was given last, or None.

    Raises ValueError that says what is wrong with it.
    """
    given = None
    for option in options:
        word, _, text = option.partition("=")
        if word != name:
            continue
        octal = name == "umask"
        digits = "01234567" if octal else "0123456789"
        if not text or text.strip(digits):
            raise ValueError(f"'{option}': not {'an octal' if octal else 'a whole'} number")
        given = int(text, 8 if octal else 10)
        if given > (0o777 if octal else _MAX_ID):
            raise ValueError(f"'{option}': too large")
    return given


def check_values(options: Iterable[str]) -> None:
    """Refuse a word with a value that cannot be.

    Raises ValueError that says what is wrong with it.
    """
    options = list(options)
    for name in ("uid", "gid", "umask"):
        value_of(options, name)
    for option in options:
        word, _, text = option.partition("=")
        if word == "subtype" and text != _SUBTYPE:
            raise ValueError(f"'{option}': the subtype is {_SUBTYPE}, by which mounts are found")
        if word == "fsname" and not text:
            raise ValueError(f"'{option}': a name is missing")
        if word == "max_read":
            # libfuse asks that the filesystem says the same in its init(), where pyfuse3
            # leaves it no way to.
            raise ValueError(f"'{option}': pyfuse3 cannot limit reads")


def for_fuse(options: Iterable[str]) -> list[str]:
    """Return the words that libfuse gets: without ours, and of contrary ones the last."""
    kept: dict[str, None] = {}
    for option in options:
        if option.partition("=")[0] in _OURS:
            continue
        for pair in _OPPOSITES:
            if option in pair:
                for word in pair:
                    kept.pop(word, None)
        kept[option] = None
    return list(kept)
