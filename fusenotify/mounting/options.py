# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of ``-o`` that all mounts or all FUSE mounts have, and what each of them does.

cli.words checks them, mounting.daemon passes them on, mounting.remount changes them on a mount.
Our own words are options of ``fusenotify mount`` (cli.mount_settings).
Each word has the same meaning as on other filesystems, or is refused, whether it comes from
mount(8), from a line of fstab or from ``fusenotify mount``.

FUSE's own words go to libfuse, fusermount3 and the kernel, which refuse those that the user may
not use.  The words that mount(8) has for every filesystem become its flags: libfuse knows some of
them, and the others are set after it, for root.  Some words are carried out by us, as by libfuse's
own filesystems, and some only concern mount(8).
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

# The flag of each word, and whether the word sets or clears it.
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
# The flags of a FUSE mount by default.
_INITIAL = MS_NOSUID | MS_NODEV
# The flags that libfuse and fusermount3 can set.
_LIBFUSE = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC | MS_NOATIME
# The flags that the daemon carries out, so that a remount cannot change them.
_TIMES = MS_NOATIME | MS_NODIRATIME | MS_STRICTATIME
OURS = MS_SYNCHRONOUS | MS_DIRSYNC | MS_NOSYMFOLLOW | _TIMES

# Words that stand for others; see mount(8).
_MEANINGS = {
    "defaults": ("rw", "suid", "dev", "exec", "async"),
    "user": ("noexec", "nosuid", "nodev"),
    "users": ("noexec", "nosuid", "nodev"),
    "owner": ("nosuid", "nodev"),
    "group": ("nosuid", "nodev"),
}
# Words for mount(8), systemd and the kernel's log, which do not change the mount.
_NOTHING = ("_netdev", "auto", "loud", "noauto", "nofail", "nomand", "nouser", "silent")
_COMMENTS = ("comment=", "x-", "X-")
# Words that the kernel shows for a FUSE mount, and that mount(8) repeats for a remount.
_SHOWN = ("blksize=", "group_id=", "max_read=", "user_id=")
# Security labels.  Without SELinux they are left out, as by mount(8).
_LABELS = ("context=", "defcontext=", "fscontext=", "rootcontext=")

# The meanings of the words, in the order in which they are shown.  Words with a value end in "=".
FUSE_MEANINGS = {
    "allow_other": "all users may use the mount; ordinary users need user_allow_other in "
    "/etc/fuse.conf",
    "allow_root": "root may use the mount, besides the user who mounts",
    "default_permissions": "the kernel checks permissions (always set)",
    "acl": "the kernel enforces POSIX access control lists",
    "uid=": "number of the user who is shown as the owner of everything",
    "gid=": "number of the group that is shown as the group of everything",
    "umask=": "octal bits to remove from mode 777, which everything is shown with",
    "nonempty": "mount even if MNT is not empty",
    "fsname=": "name of the source in the table of mounts, by default SOURCE",
    "subtype=": "must be fusenotify",
    "auto_unmount": "fusermount3 waits for the end of the daemon, and then unmounts",
    "remount": "change an existing mount",
}
GENERAL_MEANINGS = {
    "ro": "nobody may write",
    "rw": "users may write as far as permissions allow",
    "suid": "set-id bits and capabilities of programs are honoured",
    "nosuid": "set-id bits and capabilities of programs are ignored (default)",
    "dev": "device files can be opened",
    "nodev": "device files cannot be opened (default)",
    "exec": "programs can be executed",
    "noexec": "programs cannot be executed",
    "symfollow": "symbolic links are followed",
    "nosymfollow": "symbolic links are not followed",
    "sync": "each call that changes something returns when the change is on SOURCE's disk",
    "dirsync": "each call that changes a name returns when the change is on SOURCE's disk",
    "async": "calls do not wait for the disk",
    "atime": "reading updates SOURCE's access times, as SOURCE's mount does",
    "noatime": "reading updates no access times",
    "diratime": "listing a directory updates its access time",
    "nodiratime": "listing a directory does not update its access time",
    "relatime": "update an access time only if it is older than the last change, or than a day",
    "norelatime": "update access times as without relatime",
    "strictatime": "update access times at each read that reaches SOURCE",
    "nostrictatime": "update access times as without strictatime",
    "lazytime": "only shown: SOURCE's own mount decides when its times are written",
    "nolazytime": "the opposite of lazytime",
    "iversion": "only shown: inode versions are those of SOURCE",
    "noiversion": "the opposite of iversion",
    "defaults": "rw,suid,dev,exec,async",
    "user": "an ordinary user may mount it with mount(8); noexec,nosuid,nodev",
    "users": "like user, but every user may unmount it",
    "owner": "the owner of the source may mount it with mount(8); nosuid,nodev",
    "group": "members of the source's group may mount it with mount(8); nosuid,nodev",
    "nouser": "only root may mount it",
    "auto": "mount -a mounts it",
    "noauto": "mount -a does not mount it",
    "nofail": "the system starts even if it cannot be mounted",
    "_netdev": "it is mounted when there is a network",
    "silent": "no effect (for the kernel's log)",
    "loud": "no effect (for the kernel's log)",
    "nomand": "no effect: Linux has no mandatory locks any more",
    "comment=": "no effect: any text",
    **dict.fromkeys(_LABELS, "a label for SELinux; no effect without SELinux"),
}
KNOWN_OPTIONS = frozenset(FUSE_MEANINGS | GENERAL_MEANINGS)
# Words that libfuse does not get, because we carry them out.  (libfuse always mounts over files.)
_CARRIED_OUT = ("acl", "gid", "nonempty", "subtype", "uid", "umask")
_SUBTYPE = "fusenotify"
_MAX_ID = 0xFFFFFFFE


def unknown_options(options: Iterable[str]) -> list[str]:
    """Return the -o words that are unknown to every mount."""
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
    """Return the flags for mount(2); of words that contradict each other the last one counts."""
    flags = initial
    for option in options:
        for word in _MEANINGS.get(option, (option,)):
            if word not in _FLAGS:
                continue
            if option == "defaults" and word in ("suid", "dev") and os.geteuid():
                continue  # an ordinary user may not have it, and did not ask for it explicitly
            flag, on = _FLAGS[word]
            flags = flags | flag if on else flags & ~flag
    if flags & MS_STRICTATIME:  # as in the kernel
        flags &= ~(MS_NOATIME | MS_RELATIME)
    elif flags & MS_NOATIME:
        flags &= ~MS_RELATIME
    return flags


def flags_beyond_fuse(options: Iterable[str]) -> int:
    """Return the flags that libfuse and fusermount3 cannot set; root can set them afterwards."""
    return flags_of(options) & ~_LIBFUSE & ~MS_RELATIME


def other_words(options: Iterable[str]) -> list[str]:
    """Return the words that are not among those that mount(8) has for every filesystem."""
    general = {*_FLAGS, *_MEANINGS, *_NOTHING, "remount", ""}
    return [
        option
        for option in options
        if option not in general and not option.startswith((*_COMMENTS, *_LABELS))
    ]


def value_of(options: Iterable[str], name: str) -> int | None:
    """Return the number of the last uid=, gid= or umask=, or None.

    Raises ValueError, which says what is wrong.
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
    """Check the values of the words, and that this user may have them.

    Raises ValueError, which says what is wrong.
    """
    options = list(options)
    for name in ("uid", "gid", "umask"):
        value_of(options, name)
    for option in options:
        word, _, text = option.partition("=")
        if word == "subtype" and text != _SUBTYPE:
            raise ValueError(f"'{option}': the subtype is {_SUBTYPE}, which identifies the mounts")
        if word == "fsname" and not text:
            raise ValueError(f"'{option}': a name is missing")
        if word == "max_read" and "remount" not in options:
            # libfuse requires that the filesystem sets the same in its init(), which pyfuse3
            # does not allow.
            raise ValueError(f"'{option}': pyfuse3 cannot limit reads")
        if word == "mand":
            raise ValueError(f"'{option}': Linux has no mandatory locks any more")
        if word.startswith("X-mount."):
            raise ValueError(f"'{option}': mount(8) carries it out: use mount -t fuse.fusenotify")
        flag, on = _FLAGS.get(word, (0, False))
        if on and flag & ~_LIBFUSE & ~MS_RELATIME and os.geteuid():
            raise ValueError(f"'{option}': fusermount3 cannot set it, only root may have it")


def for_fuse(options: Iterable[str]) -> list[str]:
    """Return the words for libfuse: FUSE's own, and those for the flags that libfuse knows."""
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
