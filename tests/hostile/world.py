# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount with a tree of three users, and what of it must stay as it is.

top/source, top/mnt       the mount; in place they are one, and top/behind shows SOURCE
top/outside               what is in no mount
.../root, secret          root's, in SOURCE and outside
source/victim             another user's
source/attacker           the attacker's own
source/public, share, team    for all: sticky, not sticky, set-gid
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from fusenotify.client import Client
from fusenotify.mountinfo import mounts
from fusenotify.mounting.spawn import Started, start_daemon
from tests.hostile import users

# In each file of root's that others may not read.
SECRET = b"ROOT-SECRET"
# Where the attacker leaves what is removed after a round.
OPEN_TO_ALL = ("attacker", "public", "share", "team")
_END_SECONDS = 10.0
# VFS_CAP_REVISION_2 with CAP_SETUID, effective.
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0)
_CAPABILITY_XATTR = "security.capability"


@dataclass(frozen=True)
class Settings:
    """How a world is mounted."""

    in_place: bool = False
    exclusive: bool = False
    acl: bool = False
    exact: bool = False
    shown_owner: str = ""  # "attacker", "victim" or nobody

    @classmethod
    def drawn(cls, chosen: random.Random) -> Settings:
        """Return settings by chance, most often the default ones."""
        return cls(
            in_place=chosen.random() < 0.2,
            exclusive=chosen.random() < 0.3,
            acl=chosen.random() < 0.3,
            exact=chosen.random() < 0.15,
            shown_owner=chosen.choice(["", "", "", "", "", "victim", "attacker"]),
        )

    @classmethod
    def from_text(cls, text: str) -> Settings:
        """Return the settings of which text is what str() gives."""
        words = [] if text == "the defaults" else [word.strip() for word in text.split(",")]
        named = dict(word.partition("=")[::2] for word in words)
        if named.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"'{text}' are no settings")
        return cls(**{name: value or True for name, value in named.items()})  # type: ignore[arg-type]

    def __str__(self) -> str:
        said = [name if value is True else f"{name}={value}" for name, value in self._set().items()]
        return ", ".join(said) or "the defaults"

    def _set(self) -> dict[str, bool | str]:
        return {name: value for name, value in asdict(self).items() if value}


class Privileged(NamedTuple):
    """A set-id file: the rights that it gives, and the program."""

    inode: int
    what: str
    content: str


State = dict[str, tuple[object, ...]]


class World:
    """A mount, and the state of root's and the other user's files at the beginning.

    strangers are the children that this process had before.
    """

    def __init__(self, top: Path, settings: Settings, attacker: int, victim: int) -> None:
        self.settings = settings
        self.attacker = attacker
        self.victim = victim
        self.strangers = frozenset(users.children())
        self.top = top
        self.source = top / "source"
        self.mountpoint = self.source if settings.in_place else top / "mnt"
        self.behind = top / "behind" if settings.in_place else self.source
        self.outside = top / "outside"
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        self._started: Started | None = None
        self._lay_out()
        if settings.in_place:
            subprocess.run(["mount", "--bind", self.source, self.behind], check=True)
            subprocess.run(["mount", "--make-private", self.behind], check=True)
        self._guarded = self._guarded_state()
        self._privileged = self._privileged_files()

    @property
    def pid(self) -> int:
        assert self._started is not None
        return self._started.process.pid

    @property
    def socket(self) -> str:
        assert self._started is not None
        assert self._started.socket is not None
        return self._started.socket

    @property
    def may_read_all(self) -> bool:
        """Whether all is shown as the attacker's, who then may read and change it."""
        return self.settings.shown_owner == "attacker"

    @property
    def bystander(self) -> int:
        """The user who must be served well: root where all is the attacker's to forbid."""
        return 0 if self.may_read_all else self.victim

    def probed(self) -> str:
        """Return a directory of the bystander's, as a path in the mount."""
        if not self.may_read_all:
            return "victim/probe"
        # The attacker may take the others away, and does not know this one's name.
        return Path(tempfile.mkdtemp(prefix="probe-", dir=self.behind)).name

    def client(self) -> Client:
        return Client(self.socket)

    def is_alive(self) -> bool:
        return self._started is not None and self._started.process.poll() is None

    def messages(self) -> str:
        """Return what the daemon said."""
        self._messages.seek(0)
        return self._messages.read().decode(errors="backslashreplace").strip()

    def mount(self) -> None:
        """Start the daemon."""
        arguments = ["-oallow_other"]
        if self.settings.exclusive:
            arguments.append("--exclusive")
        if self.settings.acl:
            arguments.append("-oacl")
        if self.settings.exact:
            arguments.append("--access=exact")
        if self.settings.shown_owner:
            arguments.append(f"-ouid={getattr(self, self.settings.shown_owner)}")
        arguments += ["--", str(self.source), str(self.mountpoint)]
        self._started = start_daemon(arguments, stderr=self._messages.fileno(), with_lifeline=True)
        assert self._started.socket is not None, self.messages()

    def close(self) -> None:
        """End the daemon, by force where need be, and leave no mount and no file."""
        if self._started is not None:
            process, lifeline = self._started.process, self._started.lifeline
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._abort()
                process.kill()
                process.wait()
            if lifeline is not None:
                os.close(lifeline)
        self.take_foreign_mounts_away(keep=())
        self._messages.close()
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.top)], check=True)

    def take_foreign_mounts_away(self, keep: tuple[Path, ...] | None = None) -> None:
        """Unmount what is mounted below top and is not ours."""
        if keep is None:
            keep = (self.mountpoint, self.behind)
        ours = set(map(os.fsencode, keep))
        below = os.fsencode(self.top) + b"/"
        for mount in reversed(list(mounts())):
            if mount.mountpoint.startswith(below) and mount.mountpoint not in ours:
                subprocess.run(["umount", "--lazy", mount.mountpoint], check=False)

    def clear(self, through: Path) -> None:
        """Remove what the attacker made, through the mount or behind it.

        Raises subprocess.TimeoutExpired where that hangs.
        """
        places = [str(through / name) for name in OPEN_TO_ALL]
        command = ["find", *places, "-mindepth", "1", "-maxdepth", "1"]
        command += ["-exec", "rm", "-rf", "--one-file-system", "{}", "+"]
        subprocess.run(command, check=False, timeout=120, capture_output=True)

    def damage(self) -> list[str]:
        """Return what is not as it was: of root's, of the other user's, or privileged."""
        now = self._guarded_state()
        found = [
            f"{path} was {self._guarded.get(path)}, is {now.get(path)}"
            for path in sorted(self._guarded | now)
            if self._guarded.get(path) != now.get(path)
        ]
        before = self._privileged.values()
        found += [
            f"{path}: {file.what}"
            for path, file in self._privileged_files().items()
            if file not in before  # it may have been moved
        ]
        return found

    def _abort(self) -> None:
        for mount in mounts():
            if mount.mountpoint == os.fsencode(self.mountpoint) and mount.fstype.startswith("fuse"):
                minor = mount.device.partition(":")[2]
                with contextlib.suppress(OSError):
                    Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")

    def _lay_out(self) -> None:
        self.top.chmod(0o755)
        for directory in ("source", "mnt", "behind", "outside"):
            (self.top / directory).mkdir()
        self.source.chmod(0o1777)
        for place in (self.source, self.outside):
            _lay_out_roots(place)
        modes = dict(zip(OPEN_TO_ALL, (0o755, 0o1777, 0o777, 0o2777), strict=True))
        for name, mode in modes.items():
            (self.source / name).mkdir()
            (self.source / name).chmod(mode)
        os.chown(self.source / "attacker", self.attacker, self.attacker)
        for place in (self.source, self.outside):
            self._lay_out_victims(place / "victim")

    def _lay_out_victims(self, victims: Path) -> None:
        victims.mkdir(mode=0o700)
        (victims / "probe").mkdir()
        for number in range(5):
            (victims / f"data{number}").write_bytes(SECRET + bytes([number]) * 5000)
        for path in [victims, *victims.iterdir()]:
            os.chown(path, self.victim, self.victim)

    def _guarded_state(self) -> State:
        """Return the state of all that the attacker must not change."""
        places = [self.behind, self.outside]
        state: State = {}
        for place, name in zip(places, ("source", "outside"), strict=True):
            if name == "source" and self.may_read_all:
                continue
            for top in ("root", "secret", "victim"):
                for path in [place / top, *sorted((place / top).rglob("*"))]:
                    if "probe" not in path.parts:
                        with contextlib.suppress(FileNotFoundError):  # then it is missing here
                            state[f"{name}/{path.relative_to(place)}"] = _state(path)
        return state

    def _privileged_files(self) -> dict[str, Privileged]:
        """Return the files in SOURCE that give who runs them another user's rights."""
        top = self.behind
        found = subprocess.run(
            ["find", ".", "-xdev", "-type", "f", "-print0"],
            cwd=top, capture_output=True, check=False, timeout=120,
        )  # fmt: skip
        privileged = {}
        for name in filter(None, found.stdout.split(b"\0")):
            path = os.fsencode(top) + name[1:]
            try:
                what = self._privilege(path)
            except OSError:
                continue  # it went, or no path reaches it
            if what:
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
                privileged[os.fsdecode(name)] = Privileged(os.lstat(path).st_ino, what, content)
        return privileged

    def _privilege(self, path: bytes) -> str:
        status = os.lstat(path)
        if status.st_mode & stat.S_ISUID and status.st_uid != self.attacker:
            return f"set-uid {status.st_uid}, mode {status.st_mode:o}"
        both = stat.S_ISGID | stat.S_IXGRP
        if status.st_mode & both == both and status.st_gid != self.attacker:
            return f"set-gid {status.st_gid}, mode {status.st_mode:o}"
        if _CAPABILITY_XATTR in os.listxattr(path, follow_symlinks=False):
            value = os.getxattr(path, _CAPABILITY_XATTR, follow_symlinks=False)
            # Revision 3 counts in the user namespaces of its root only.
            if value[3] != 3 or struct.unpack_from("<I", value, 20)[0] != self.attacker:
                return f"capability {value.hex()}, mode {status.st_mode:o}"
        return ""


def _lay_out_roots(place: Path) -> None:
    (place / "secret").write_bytes(SECRET + b" at the top")
    (place / "secret").chmod(0o600)
    root = place / "root"
    root.mkdir()
    contents = {"secret": 0o600, "group": 0o660, "readable": 0o644}
    for name, mode in contents.items():
        (root / name).write_bytes((b"" if mode & 0o004 else SECRET) + name.encode() * 1000)
        (root / name).chmod(mode)
    for name, mode in {"setuid": 0o4755, "setgid": 0o2755, "capable": 0o755}.items():
        shutil.copy("/bin/true", root / name)
        (root / name).chmod(mode)
    os.setxattr(root / "capable", _CAPABILITY_XATTR, _CAPABILITY)
    os.setxattr(root / "readable", "user.remark", b"root's")
    (root / "hidden").mkdir(mode=0o700)
    (root / "hidden/secret").write_bytes(SECRET)
    (root / "link").symlink_to("secret")


def _state(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    else:
        content = ""
    attributes = tuple(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in os.listxattr(path, follow_symlinks=False)
        # Linux lets anybody take capabilities from a file, by chown(path, -1, -1) or an empty
        # value; what gives some is looked for by _privilege().
        if name != _CAPABILITY_XATTR
    )
    times = status.st_mtime_ns if stat.S_ISREG(status.st_mode) else 0
    links = status.st_nlink if stat.S_ISREG(status.st_mode) else 1
    return (status.st_mode, status.st_uid, status.st_gid, links, times, content, attributes)


@contextlib.contextmanager
def world(settings: Settings, attacker: int, victim: int) -> Iterator[World]:
    """Make a world in a temporary directory (TMPDIR), and take it away with the attackers."""
    made = World(Path(tempfile.mkdtemp(prefix="fusenotify-hostile-")), settings, attacker, victim)
    try:
        made.mount()
        yield made
    finally:
        users.end_all(attacker, _END_SECONDS)
        made.close()
        users.end_all(attacker, _END_SECONDS)  # who waited for the daemon
