# SPDX-License-Identifier: GPL-2.0-or-later
"""SOURCE on overlayfs, where st_dev and st_ino do not say which object a name is.

Two names of a file in the lower layer share them until one is copied up, and
then go their own ways; copying up changes those of many objects.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusenotify import Mounted
from fusenotify.engine.core import Core
from fusenotify.events import unpack
from fusenotify.fs import identity
from fusenotify.fs.descriptors import KEPT
from fusenotify.fs.inodes import Inodes
from fusenotify.fs.submounts import Submounts
from fusenotify.masks import IN_ATTRIB, IN_ISDIR, IN_MODIFY
from tests.conftest import Mounting
from tests.differential.linux import LinuxDevice

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts overlays"),
]

# Calls of each random program.
CALLS = 200
LINKED = ("a", "b", "c")
FILES = (*LINKED, "p", "q", "single", "s/below", "upper")


@dataclass(frozen=True)
class Kind:
    """How an overlay is mounted, and whether its layers are in one filesystem."""

    options: str
    one_filesystem: bool


def kinds(*xinos: str) -> list[Any]:
    return [
        pytest.param(
            Kind(f"index={index},xino={xino}", one), id=f"index={index} xino={xino} {layers}"
        )
        for index in ("off", "on")
        for xino in xinos
        for one, layers in ((True, "one disk"), (False, "two"))
    ]


def make_overlay(top: Path, place: Path, kind: Kind, closing: ExitStack) -> None:
    """Mount an overlay at place, with layers below top."""
    lower = top / "lower"
    for path in (lower, top / "upper", top / "work", place):
        path.mkdir(parents=True, exist_ok=True)

    def mount(*arguments: str | Path) -> None:
        subprocess.run(["mount", *arguments], check=True)
        closing.callback(subprocess.run, ["umount", arguments[-1]], check=True)

    if not kind.one_filesystem:
        mount("-t", "tmpfs", "none", lower)
    (lower / "s").mkdir()
    for name in ("a", "p", "single", "s/below"):
        (lower / name).write_text(f"lower {name}\n")
    for name in ("b", "c"):
        os.link(lower / "a", lower / name)
    os.link(lower / "p", lower / "q")
    options = f"lowerdir={lower},upperdir={top / 'upper'},workdir={top / 'work'},{kind.options}"
    mount("-t", "overlay", "overlay", "-o", options, place)
    (place / "upper").write_text("upper\n")


@pytest.fixture(params=kinds("off"))
def overlays(
    request: pytest.FixtureRequest, tmp_path: Path, mounting: Mounting
) -> Iterator[tuple[Path, Mounted]]:
    """Two overlays of the same: one to be used natively, one that is a mount's SOURCE."""
    with ExitStack() as closing:
        make_overlay(tmp_path / "layers1", tmp_path / "native", request.param, closing)
        make_overlay(tmp_path / "layers2", tmp_path / "source", request.param, closing)
        with mounting() as mount:
            yield tmp_path / "native", mount


def state(top: Path) -> dict[str, object]:
    """Return what is seen of each name."""
    seen: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        status = path.stat()
        name = str(path.relative_to(top))
        content = path.read_bytes() if path.is_file() else None
        seen[name] = (oct(status.st_mode), status.st_size, content)
        if content is not None:
            seen[f"{name}'s links"] = status.st_nlink
    return seen


def write(path: Path, text: str) -> None:
    with open(path, "r+") as file:
        file.write(text)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda top: write(top / "b", "changed"), id="write"),
        pytest.param(lambda top: (top / "b").chmod(0o600), id="chmod"),
        pytest.param(lambda top: (top / "b").rename(top / "a"), id="rename over its like"),
        pytest.param(lambda top: (top / "b").unlink(), id="unlink"),
        pytest.param(lambda top: os.link(top / "b", top / "d"), id="link"),
    ],
)
def test_a_change_by_one_name_is_made_to_the_object_of_that_name(
    overlays: tuple[Path, Mounted], change: Callable[[Path], object]
) -> None:
    native, mount = overlays
    top = Path(mount.mountpoint)
    for path in (native, top):
        state(path)  # now all names are known
        change(path)
        write(path / "c", "then c")
    assert state(top) == state(native)
    assert state(Path(mount.source)) == state(native)


class World:
    """An overlay, or a mount of one, under a program with open files."""

    def __init__(self, top: Path, closing: ExitStack) -> None:
        self.top = top
        self.fds: list[int] = []
        closing.callback(self.close)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)

    def open(self, name: str, flags: int) -> None:
        self.fds.append(os.open(self.top / name, flags))

    def shut(self, which: int) -> None:
        if self.fds:
            os.close(self.fds.pop(which % len(self.fds)))

    def use(self, call: Callable[[int], object], which: int) -> object:
        return call(self.fds[which % len(self.fds)]) if self.fds else None


def program(pick: random.Random, length: int) -> Iterator[Callable[[World], object]]:
    for number in range(length):
        name, other = pick.choice(FILES), pick.choice((*FILES, "new", "s/new"))
        which, mode = pick.randrange(8), pick.choice((0o600, 0o644, 0o755))
        data = b"%d" % number
        flags = pick.choice((os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND))
        yield pick.choice(
            (
                lambda w, n=name, f=flags: w.open(n, f),
                lambda w, n=name, f=flags: w.open(n, f),
                lambda w, i=which: w.shut(i),
                lambda w, i=which, d=data: w.use(lambda fd: os.write(fd, d), i),
                lambda w, i=which, d=data: w.use(lambda fd: os.pwrite(fd, d, 2), i),
                lambda w, i=which: w.use(lambda fd: os.pread(fd, 100, 0), i),
                lambda w, i=which, m=mode: w.use(lambda fd: os.fchmod(fd, m), i),
                lambda w, i=which: w.use(lambda fd: os.fstat(fd).st_mode, i),
                lambda w, n=name, m=mode: (w.top / n).chmod(m),
                lambda w, n=name: os.truncate(w.top / n, 4),
                lambda w, n=name, o=other: (w.top / n).rename(w.top / o) and None,
                lambda w, n=name: (w.top / n).unlink(),
                lambda w, n=name, o=other: os.link(w.top / n, w.top / o),
                lambda w, n=name, d=data: (w.top / n).write_bytes(d),
            )
        )


def answer(step: Callable[[World], object], world: World) -> object:
    try:
        return step(world)
    except OSError as error:
        return error.errno


@pytest.mark.parametrize("overlays", kinds("off", "on"), indirect=True)
def test_a_program_finds_the_same_as_on_the_overlay(overlays: tuple[Path, Mounted]) -> None:
    native, mount = overlays
    with ExitStack() as closing:
        worlds = [World(native, closing), World(Path(mount.mountpoint), closing)]
        for number, step in enumerate(program(random.Random(5), CALLS)):
            expected, found = (answer(step, world) for world in worlds)
            assert found == expected, f"call {number}"
            assert state(worlds[1].top) == state(native), f"call {number}"
    assert state(Path(mount.source)) == state(native)


def test_a_copied_up_file_keeps_its_number_and_its_watches(
    overlays: tuple[Path, Mounted],
) -> None:
    _, mount = overlays
    top = Path(mount.mountpoint)
    with mount.client() as client:
        device = client.init(nonblock=True)
        watched = {
            device.add_watch(name, IN_ATTRIB | IN_MODIFY): name for name in ("single", "s", "a")
        }
        before = {name: (top / name).stat().st_ino for name in watched.values()}
        (top / "s").chmod(0o700)
        (top / "single").chmod(0o600)
        write(top / "single", "changed")
        (top / "a").chmod(0o600)
        assert device.add_watch("a", IN_ATTRIB | IN_MODIFY) == max(watched)
        write(top / "a", "changed")
        (top / "s" / "new").write_text("in what was copied up")
        assert {name: (top / name).stat().st_ino for name in before} == before
        client.sync()
        heard = [(watched[event.wd], event.mask & ~IN_ISDIR) for event in unpack(device.read(4096))]
    assert heard == [
        ("s", IN_ATTRIB),
        ("single", IN_ATTRIB),
        ("single", IN_MODIFY),
        ("a", IN_ATTRIB),
        ("a", IN_MODIFY),
        ("s", IN_MODIFY),
    ]


def test_a_watch_gets_events_of_another_name_if_the_kernels_does(
    overlays: tuple[Path, Mounted],
) -> None:
    native, mount = overlays
    top = Path(mount.mountpoint)
    with mount.client() as client, closing(LinuxDevice()) as linux:
        device = client.init(nonblock=True)
        for name in LINKED:
            device.add_watch(name, IN_MODIFY)
            linux.add_watch(native / name, IN_MODIFY)
        for path in (native, top):
            write(path / "b", "x")
            write(path / "a", "y")
            write(path / "b", "z")
        client.sync()
        ours, theirs = device.read(4096), linux.read(4096)
    assert ours == theirs


@pytest.mark.parametrize("inotify", ["there is inotify", "no inotify is left"])
@pytest.mark.parametrize("kind", kinds("off"))
def test_the_table_knows_each_object_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, inotify: str
) -> None:
    def refuse(fd: int, path: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if inotify == "no inotify is left":
        monkeypatch.setattr(identity, "watch", refuse)
    with ExitStack() as leaving:
        top = tmp_path / "overlay"
        make_overlay(tmp_path, top, kind, leaving)
        table = Inodes(Submounts(os.open(top, os.O_PATH)), Core())
        leaving.callback(table.close)
        known = {name: table.lookup(table.root, name.encode())[0] for name in ("a", "b", "single")}
        for inode in known.values():
            inode.lookups += 1
        for name in ("b", "single"):
            write(Path(known[name].path), "changed")
            assert (top / name).read_text().startswith("changed")
        for name, inode in known.items():
            assert table.lookup(table.root, name.encode())[0] is inode
            if inotify == "there is inotify":
                assert table.take(os.open(top / name, os.O_PATH))[0] is inode
        if inotify == "there is inotify":
            assert (known["a"] is known["b"]) == kind.options.startswith("index=on")
        for inode in set(known.values()):
            table.forget(inode.number, 3)
        assert len(table) == 1
        assert table._identity._watches.keys() <= {table.root}


@pytest.mark.parametrize("kind", kinds("off"))
def test_a_copied_up_and_closed_file_is_opened_again(tmp_path: Path, kind: Kind) -> None:
    with ExitStack() as leaving:
        top = tmp_path / "overlay"
        make_overlay(tmp_path, top, kind, leaving)
        table = Inodes(Submounts(os.open(top, os.O_PATH)), Core(), descriptor_limit=4 * KEPT)
        leaving.callback(table.close)
        table.descriptors._ceiling = 1 << 20  # pytest's own descriptors do not count here
        known = {name: table.lookup(table.root, name.encode())[0] for name in ("s", "a")}
        for inode in known.values():
            inode.lookups += 1
            Path(inode.path).chmod(0o700)
        for number in range(8 * KEPT):
            (top / str(number)).touch()
            table.lookup(table.root, b"%d" % number)[0].lookups += 1
        for name, inode in known.items():
            assert inode.held < 0
            assert Path(inode.path).stat().st_mode & 0o777 == 0o700
            assert table.lookup(table.root, name.encode())[0] is inode
