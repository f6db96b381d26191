# SPDX-License-Identifier: GPL-2.0-or-later
"""Rights: modes with set-id bits, owners, ACLs, capabilities, attributes, times."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
import subprocess

from tests.hostile.context import Context, call

_ACCESS = "system.posix_acl_access"
_DEFAULT = "system.posix_acl_default"
_CAPABILITY = "security.capability"
_CAPABILITIES = (
    struct.pack("<5I", 0x02000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0),
    struct.pack("<6I", 0x03000001, 1 << 7, 0, 0, 0, 0),
    struct.pack("<3I", 0x01000001, 1 << 7, 0),
    b"",
    b"\xff" * 100,
)


def _acl(context: Context) -> bytes:
    """Return an ACL, mostly one that Linux takes."""
    chosen = context.chosen
    entries = [(0x01, chosen.randrange(8), 0xFFFFFFFF)]
    entries += [(0x02, chosen.randrange(8), chosen.choice([0, context.uid]))] * chosen.randrange(2)
    entries += [(0x04, chosen.randrange(8), 0xFFFFFFFF)]
    entries += [(0x08, chosen.randrange(8), chosen.choice([0, context.uid]))] * chosen.randrange(2)
    entries += [(0x10, chosen.randrange(8), 0xFFFFFFFF), (0x20, chosen.randrange(8), 0xFFFFFFFF)]
    if chosen.random() < 0.1:
        entries *= chosen.choice([0, 3, 400])
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@call
def change_modes(context: Context) -> None:
    """Set every bit on own and foreign objects; then write to, truncate and give them away."""
    for _ in range(context.chosen.choice([20, 100])):
        path = context.chosen.choice([context.path, context.path, context.foreign])()
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, context.chosen.randrange(0o10000)))
        with contextlib.suppress(OSError):
            os.chmod(
                path, context.chosen.choice([0o6777, 0o4755, 0o2755, 0o2700, 0, 0o1777, 0o644])
            )
        with contextlib.suppress(OSError):
            gid = context.chosen.choice([-1, 0, context.uid])
            os.chown(path, context.chosen.choice([-1, 0, context.uid, context.uid + 1]), gid)
        with contextlib.suppress(OSError):
            os.truncate(path, context.chosen.randrange(5))


@call
def set_acls(context: Context) -> None:
    """ACLs of every kind on files and directories, and objects made below default ones."""
    for _ in range(context.chosen.choice([10, 60])):
        path = context.chosen.choice([context.path, context.foreign])()
        with contextlib.suppress(OSError):
            os.setxattr(path, context.chosen.choice([_ACCESS, _DEFAULT]), _acl(context))
        with contextlib.suppress(OSError):
            os.mkdir(f"{path}/made", context.chosen.randrange(0o10000))
        with contextlib.suppress(OSError):
            made = os.open(
                f"{path}/file", os.O_CREAT | os.O_RDWR, context.chosen.randrange(0o10000)
            )
            os.close(made)
        with contextlib.suppress(OSError):
            os.listxattr(path)
            os.removexattr(path, context.chosen.choice([_ACCESS, _DEFAULT]))


@call
def set_capabilities(context: Context) -> None:
    """Capabilities on own and foreign programs, by every road."""
    for _ in range(20):
        path = context.chosen.choice([context.path, context.fresh, context.foreign])()
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o755))
        for value in _CAPABILITIES:
            with contextlib.suppress(OSError):
                os.setxattr(path, _CAPABILITY, value)


@call
def set_attributes(context: Context) -> None:
    """Extended attributes of every namespace, many, large, of odd names."""
    path = context.chosen.choice([context.path, context.fresh])()
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    names = ["user.a", "user." + "n" * 250, "trusted.overlay.opaque", "security.selinux", "bogus"]
    names += [
        "security.ima",
        "user.fusenotify.socket",
        "system.posix_acl_access",
        "user.",
        "user.x",
    ]
    for _ in range(40):
        for target in (path, context.foreign()):
            name = context.chosen.choice(names)
            size = context.chosen.choice([0, 10, 4000, 65536])
            with contextlib.suppress(OSError):
                os.setxattr(target, name, b"v" * size, context.chosen.choice([0, 1, 2]))
            with contextlib.suppress(OSError):
                os.getxattr(target, name)
            with contextlib.suppress(OSError):
                os.removexattr(target, name)
    for number in range(context.chosen.choice([0, 200])):
        with contextlib.suppress(OSError):
            os.setxattr(path, f"user.{number}", b"value")


@call
def set_times(context: Context) -> None:
    """Times of every value on own and foreign objects."""
    for _ in range(30):
        path = context.chosen.choice([context.path, context.foreign])()
        value = context.chosen.choice([0, 1, -1, 2**40, -(2**40), 2**62])
        with contextlib.suppress(OSError, OverflowError):
            os.utime(path, ns=(value, value), follow_symlinks=context.chosen.random() < 0.5)


@call
def run_as_another(context: Context) -> None:
    """Run programs of the mount that are, or were made, set-id, and check their users."""
    path = context.fresh()
    shutil.copy("/usr/bin/id", path)
    for mode in (0o6755, 0o4755, 0o2755):
        with contextlib.suppress(OSError):
            os.chmod(path, mode)
        for program in (path, path.replace(context.behind, context.through, 1)):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                done = subprocess.run(
                    [program, "-u"], capture_output=True, text=True, timeout=20, check=False
                )
                if done.stdout.strip() not in ("", str(context.uid)):
                    context.say(f"ran {program} as {done.stdout.strip()}")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        os.chmod(path, 0o755)
        stale = path.replace(context.behind, context.through, 1)
        os.stat(stale)
        os.rename(context.chosen.choice([context.path, context.foreign])(), path)
        os.chmod(stale, 0o4755)


@call
def use_what_is_foreign(context: Context) -> None:
    """Write, cut and map what is another's, through descriptors of every kind."""
    for _ in range(30):
        path = context.foreign()
        with contextlib.suppress(OSError):
            held = os.open(path, os.O_PATH)
            way = f"/proc/self/fd/{held}"
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
                with contextlib.suppress(OSError):
                    file = os.open(way, flags | os.O_NONBLOCK)
                    context.look(file)
                    with contextlib.suppress(OSError):
                        os.write(file, b"attacked")
                    os.close(file)
            context.attempt(os.chmod, way, 0o777)
            context.attempt(os.truncate, way, 0)
            os.close(held)
        for name in ("..", ".", "../secret", "../root/secret", "../../outside/secret"):
            with contextlib.suppress(OSError):
                file = os.open(f"{path}/{name}", os.O_RDONLY | os.O_NONBLOCK)
                context.look(file)
                os.close(file)


@call
def inherit_groups(context: Context) -> None:
    """Make set-gid files where directories hand a group down."""
    directory = f"{context.side()}/team/{context.name()}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o2777)
    for number in range(10):
        path = f"{directory}/{number}"
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o2777))
        with contextlib.suppress(OSError):
            os.mknod(path + "n", stat.S_IFREG | 0o2777)
        for mode in (0o2777, 0o2060, 0o6777):
            with contextlib.suppress(OSError):
                os.chmod(path, mode)
        with contextlib.suppress(OSError):
            os.setxattr(path, _ACCESS, _acl(context))
