# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of ``-o`` that every mount has, or every FUSE mount: what each of them becomes.

cli.words checks them, mounting.daemon hands them on, mounting.remount changes what a mount has.
The others, which are ours, are options of ``fusenotify mount`` (cli.mount_settings).
Each word means what it means on a disk, whether mount(8), a line of fstab or
``fusenotify mount`` says it, or it is refused.

FUSE's own words go to libfuse, fusermount3 and the kernel, which refuse what the user may not
have.  Those that mount(8) has for every filesystem become its flags: libfuse knows some, and
the others are set behind it, for root.  Some are carried out by us, as by libfuse's own
filesystems, and some are mount(8)'s affair.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

# Linux: include/uapi/linux/mount.h.
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

# The flag of a word, and whether the word sets it.
_FLAGS = {
    "ro": (MS_RDONLY, True),
    "rw": (MS_RDONLY, False),
    "nosuid": (MS_NOSUID, True),
    "suid": (MS_NOSUID, False),
    "nodev": (MS_NODEV, True),
    "dev": (MS_NODEV, False),
    "noexec": (MS_NOEXEC, True),
    "exec": (MS_NOEXEC, False),
    "sync": (MS_SYNCHRONOUS, True),
    "async": (MS_SYNCHRONOUS, False),
    "dirsync": (MS_DIRSYNC, True),
    "noatime": (MS_NOATIME, True),
    "atime": (MS_NOATIME, False),
    "nodiratime": (MS_NODIRATIME, True),
    "diratime": (MS_NODIRATIME, False),
    "relatime": (MS_RELATIME, True),
    "norelatime": (MS_RELATIME, False),
    "strictatime": (MS_STRICTATIME, True),
    "nostrictatime": (MS_STRICTATIME, False),
    "lazytime": (MS_LAZYTIME, True),
    "nolazytime": (MS_LAZYTIME, False),
    "iversion": (MS_I_VERSION, True),
    "noiversion": (MS_I_VERSION, False),
    "nosymfollow": (MS_NOSYMFOLLOW, True),
    "symfollow": (MS_NOSYMFOLLOW, False),
}
# What FUSE mounts have unless they are told otherwise.
_INITIAL = MS_NOSUID | MS_NODEV
# What libfuse and fusermount3 know how to set.
_LIBFUSE = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC | MS_NOATIME
# What the daemon carries out, and so what a remount cannot change.
_TIMES = MS_NOATIME | MS_NODIRATIME | MS_STRICTATIME
OURS = MS_SYNCHRONOUS | MS_DIRSYNC | MS_NOSYMFOLLOW | _TIMES

# Words that stand for others, as mount(8) says.
_MEANINGS = {
    "defaults": ("rw", "suid", "dev", "exec", "async"),
    "user": ("noexec", "nosuid", "nodev"),
    "users": ("noexec", "nosuid", "nodev"),
    "owner": ("nosuid", "nodev"),
    "group": ("nosuid", "nodev"),
}
# Words for mount(8), systemd and the kernel's log, which change nothing of a mount.
_NOTHING = ("_netdev", "auto", "loud", "noauto", "nofail", "nomand", "nouser", "silent")
_COMMENTS = ("comment=", "x-", "X-")
# What the kernel shows of a FUSE mount, and mount(8) says again for a remount.
_SHOWN = ("blksize=", "group_id=", "max_read=", "user_id=")
# Security labels; mount(8), too, leaves them out where there is no SELinux.
_LABELS = ("context=", "defcontext=", "fscontext=", "rootcontext=")

# What each word means, in the order of being shown.  Those with a value end in "=".
FUSE_MEANINGS = {
    "allow_other": "all users may use the mount; ordinary users need user_allow_other in "
    "/etc/fuse.conf",
    "allow_root": "root may use the mount, beside the user who mounts",
    "default_permissions": "the kernel checks permissions: always so",
    "acl": "the kernel enforces POSIX access control lists",
    "uid=": "the number of the user whom everything is shown to belong to",
    "gid=": "the number of the group that everything is shown to belong to",
    "umask=": "the bits, octal, that are missing from mode 777, with which everything is shown",
    "nonempty": "mount also where MNT has something in it",
    "fsname=": "the name of the source in the table of mounts, by default SOURCE",
    "subtype=": "fusenotify, and nothing else",
    "auto_unmount": "fusermount3 waits for the daemon's end, and unmounts then",
    "remount": "change the mount that is there",
}
GENERAL_MEANINGS = {
    "ro": "nobody may write",
    "rw": "what permissions allow may be written",
    "suid": "set-id bits and capabilities of programs count",
    "nosuid": "they do not: so unless it is said",
    "dev": "device files can be opened",
    "nodev": "they cannot: so unless it is said",
    "exec": "programs can be executed",
    "noexec": "they cannot",
    "symfollow": "symbolic links are followed",
    "nosymfollow": "they are not",
    "sync": "each call that changes something returns when SOURCE's disk has it",
    "dirsync": "each call that changes a name does",
    "async": "calls do not wait for the disk",
    "atime": "reading moves SOURCE's access times, as its mount says",
    "noatime": "reading moves no access time",
    "diratime": "listing a directory moves its access time",
    "nodiratime": "it does not",
    "relatime": "access times move where they are older than the last change, or than a day",
    "norelatime": "they move as without relatime",
    "strictatime": "access times move with each reading that reaches SOURCE",
    "nostrictatime": "they move as without strictatime",
    "lazytime": "shown only: when SOURCE's times are written is for its own mount to say",
    "nolazytime": "the opposite",
    "iversion": "shown only: versions of inodes are SOURCE's",
    "noiversion": "the opposite",
    "defaults": "rw,suid,dev,exec,async",
    "user": "an ordinary user may mount it by mount(8); noexec,nosuid,nodev",
    "users": "every user may mount it, and unmount what another one has mounted; the same",
    "owner": "the owner of the source may mount it by mount(8); nosuid,nodev",
    "group": "so may members of its group; nosuid,nodev",
    "nouser": "only root may mount it",
    "auto": "mount -a mounts it",
    "noauto": "it does not",
    "nofail": "that it cannot be mounted keeps nothing from starting",
    "_netdev": "it is mounted when there is a network",
    "silent": "nothing: for the kernel's log",
    "loud": "nothing: for the kernel's log",
    "nomand": "nothing: Linux has no mandatory locks any more",
    "comment=": "nothing: anything may be said",
    **dict.fromkeys(_LABELS, "a label for SELinux, where there is one"),
}
KNOWN_OPTIONS = frozenset(FUSE_MEANINGS | GENERAL_MEANINGS)
# Not for libfuse: we carry them out.  It always mounts over what is there.
_CARRIED_OUT = ("acl", "gid", "nonempty", "subtype", "uid", "umask")
_SUBTYPE = "fusenotify"
_MAX_ID = 0xFFFFFFFE


def unknown_options(options: Iterable[str]) -> list[str]:
    """Return the -o words that no mount understands."""
    options = list(options)
    others = _COMMENTS + (_SHOWN if "remount" in options else ())
    return [
        option
        for option in options
        if option
        and "".join(option.partition("=")[:2]) not in KNOWN_OPTIONS
        and not option.startswith(others)
    ]


def flags_of(options: Iterable[str], initial: int = _INITIAL) -> int:
    """Return mount(2)'s flags; of contrary words the last one counts."""
    flags = initial
    for option in options:
        for word in _MEANINGS.get(option, (option,)):
            if word not in _FLAGS:
                continue
            if option == "defaults" and word in ("suid", "dev") and os.geteuid():
                continue  # which an ordinary user may not have, and did not ask for
            flag, on = _FLAGS[word]
            flags = flags | flag if on else flags & ~flag
    if flags & MS_STRICTATIME:  # as the kernel has it
        flags &= ~(MS_NOATIME | MS_RELATIME)
    elif flags & MS_NOATIME:
        flags &= ~MS_RELATIME
    return flags


def flags_beyond_fuse(options: Iterable[str]) -> int:
    """Return the flags that libfuse and fusermount3 cannot set: root may, behind them."""
    return flags_of(options) & ~_LIBFUSE & ~MS_RELATIME


def other_words(options: Iterable[str]) -> list[str]:
    """Return the words that are none of mount(8)'s for every filesystem."""
    general = {*_FLAGS, *_MEANINGS, *_NOTHING, "remount", ""}
    return [
        option
        for option in options
        if option not in general and not option.startswith((*_COMMENTS, *_LABELS))
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
    """Refuse a word with a value that cannot be, or without a meaning for this user.

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
        if word == "max_read" and "remount" not in options:
            # libfuse asks that the filesystem says the same in its init(), where pyfuse3
            # leaves it no way to.
            raise ValueError(f"'{option}': pyfuse3 cannot limit reads")
        if word == "mand":
            raise ValueError(f"'{option}': Linux has no mandatory locks any more")
        if word.startswith("X-mount."):
            raise ValueError(f"'{option}': mount(8) carries it out: mount -t fuse.fusenotify")
        flag, on = _FLAGS.get(word, (0, False))
        if on and flag & ~_LIBFUSE & ~MS_RELATIME and os.geteuid():
            raise ValueError(f"'{option}': fusermount3 cannot set it, only root may have it")


def for_fuse(options: Iterable[str]) -> list[str]:
    """Return the words that libfuse gets: FUSE's own, and those for the flags that it knows."""
    options = list(options)
    flags = flags_of(options)
    kept = [
        option for option in other_words(options) if option.partition("=")[0] not in _CARRIED_OUT
    ]
    if os.path.exists("/sys/fs/selinux/enforce"):
        kept += [option for option in options if option.startswith(_LABELS)]
    for word, (flag, on) in _FLAGS.items():
        changed = (flags ^ _INITIAL) & flag & _LIBFUSE
        if changed and on == bool(flags & flag):
            kept.append(word)
    return list(dict.fromkeys(kept))
