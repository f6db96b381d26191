# SPDX-License-Identifier: GPL-2.0-or-later
"""What to do when FUSE refuses a mount: libfuse and fusermount3 say at most what failed.

mounting.daemon asks after a failure.  The cause is looked for only then, so that nothing
is refused here that the kernel would allow.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import stat

from fusenotify.mounting.mountpoints import fusermount

_CAP_SYS_ADMIN = 21
# Linux: include/uapi/linux/nsfs.h.
_NS_GET_USERNS = 0xB701
_OR_A_NAMESPACE = "or mount in a user namespace, as 'unshare -Urm' makes one"


def advice(mountpoint: str) -> str:
    """Return what to do, as the part of a sentence after a colon; "" if that is unknown."""
    return _for_root() if os.geteuid() == 0 else _for_a_user(mountpoint)


def _for_root() -> str:
    if not int(_of_this_process("CapEff"), 16) >> _CAP_SYS_ADMIN & 1:
        return (
            "root has no right to mount here (CAP_SYS_ADMIN); "
            "give it to the container (--cap-add SYS_ADMIN --device /dev/fuse)"
        )
    if not _mount_namespace_is_ours():
        return (
            "the mount namespace belongs to another user namespace; make a mount namespace, too, "
            "as 'unshare -Urm' does"
        )
    return (
        "the kernel does not let root mount here; in a container, AppArmor or seccomp may forbid "
        "it (--security-opt apparmor=unconfined, --security-opt seccomp=unconfined)"
    )


def _for_a_user(mountpoint: str) -> str:
    program = fusermount() or "fusermount3"
    if _of_this_process("NoNewPrivs") == "1":
        return (
            "set-user-ID programs such as fusermount3 get no rights here (no_new_privs); "
            f"start it outside of the sandbox, {_OR_A_NAMESPACE}"
        )
    if not _is_set_uid_root(program):
        return (
            f"{program} is not a set-user-ID program of root here; unless a sandbox hides the bit, "
            f"root can set it with 'chmod u+s {program}', {_OR_A_NAMESPACE}"
        )
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return (
            f"user {os.getuid()} has no name, and fusermount3 needs one; "
            f"add a line to /etc/passwd, {_OR_A_NAMESPACE}"
        )
    if not os.access(mountpoint, os.W_OK):
        return "an ordinary user may mount only on a directory that the user may write to"
    return ""


def _of_this_process(field: str) -> str:
    """Return a field of /proc/self/status; "0" if the kernel does not have it."""
    with open("/proc/self/status") as lines:
        return next((line.split()[1] for line in lines if line.startswith(f"{field}:")), "0")


def _mount_namespace_is_ours() -> bool:
    """Return whether the owner of the mount namespace is this user namespace, or below it."""
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    try:
        os.close(fcntl.ioctl(namespace, _NS_GET_USERNS))
    except PermissionError:
        return False
    finally:
        os.close(namespace)
    return True


def _is_set_uid_root(program: str) -> bool:
    try:
        found = os.stat(program)
        return bool(
            found.st_mode & stat.S_ISUID
            and found.st_uid == 0
            and not os.statvfs(program).f_flag & os.ST_NOSUID
        )
    except OSError:
        return False
