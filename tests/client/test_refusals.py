# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be watched is refused by every door with the same errno and the same words."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import fusenotify
from fusenotify import Mounted
from fusenotify.client import Client, Inotify, aio
from fusenotify.masks import IN_CREATE
from fusenotify.testing import TemporaryMount
from tests.client.test_other_languages import Foreigner

pytestmark = pytest.mark.mount

# A path from the mount's root, what the watch is to be, and what is said of it.
BAD = [
    pytest.param("file", {"tree": True}, errno.ENOTDIR, "Not a directory: ", id="a file"),
    pytest.param("link", {"tree": True}, errno.ENOTDIR, "Not a directory: ", id="a link to one"),
    pytest.param("none", {"tree": True}, errno.ENOENT, "No such file or directory", id="nothing"),
    pytest.param(
        "other",
        {"tree": True},
        errno.ENOSPC,
        f"user {os.geteuid()} has max_user_trees = 1 already",
        id="a tree too many",
    ),
    *(
        pytest.param(path, {"tree": tree, "exclude": exclude}, errno.EINVAL, said, id=said)
        for path, tree, exclude, said in (
            ("tree", True, ["*.o", "!"], "the pattern '!': Invalid git pattern"),
            ("tree", False, ["a\\"], "the pattern 'a\\': Invalid git pattern"),
            ("tree", True, ["[z-a]"], "the pattern '[z-a]': bad character range z-a"),
            ("tree", False, ["a" * 9000], "9000 bytes of patterns: at most 8192"),
            ("tree", True, ["a"] * 1001, "1001 patterns: at most 1000"),
        )
    ),
]

Door = Callable[[Mounted, str, dict[str, Any]], tuple[int, str]]


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """One with a tree watch, which is all that there may be."""
    places = [tmp_path_factory.mktemp(name) for name in ("source", "mnt")]
    with fusenotify.mounted(*places, max_user_trees=1) as mount, mount.client() as client:
        top = Path(mount.mountpoint)
        for name in ("tree", "other"):
            (top / name).mkdir()
        (top / "file").touch()
        (top / "link").symlink_to("file")
        client.init().add_watch("tree", IN_CREATE, tree=True)
        yield mount


def refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(OSError) as refusal:  # noqa: PT011  (the caller looks at it)
        call()
    assert refusal.value.errno is not None
    return refusal.value.errno, str(refusal.value)


def by_hand(mount: Mounted, path: str, kind: dict[str, Any]) -> tuple[int, str]:
    foreigner = Foreigner(mount.socket)
    foreigner.ask(type="hello", version=1)
    device = foreigner.ask(type="init")["device"]
    kind = {**kind, "exclude": [os.fsencode(pattern) for pattern in kind.get("exclude", ())]}
    answer = foreigner.ask(
        type="add_watch", device=device, path=path.encode(), mask=IN_CREATE, **kind
    )
    assert foreigner.ask(type="sync")["type"] == "done"  # the connection goes on
    foreigner.close()
    return answer["errno"], answer["message"]


def by_client(mount: Mounted, path: str, kind: dict[str, Any]) -> tuple[int, str]:
    with Client(mount.socket) as client, client.init() as device:
        return refused(lambda: device.add_watch(path, IN_CREATE, **kind))


def by_async_client(mount: Mounted, path: str, kind: dict[str, Any]) -> tuple[int, str]:
    async def ask() -> None:
        async with aio.Client(mount.socket) as client, await client.init() as device:
            await device.add_watch(path, IN_CREATE, **kind)

    return refused(lambda: asyncio.run(ask()))


def by_inotify(mount: Mounted, path: str, kind: dict[str, Any]) -> tuple[int, str]:
    with Inotify() as inotify:
        return refused(lambda: inotify.add_watch(Path(mount.mountpoint, path), IN_CREATE, **kind))


def by_async_inotify(mount: Mounted, path: str, kind: dict[str, Any]) -> tuple[int, str]:
    async def ask() -> None:
        async with aio.Inotify() as inotify:
            await inotify.add_watch(Path(mount.mountpoint, path), IN_CREATE, **kind)

    return refused(lambda: asyncio.run(ask()))


def by_a_tests_device(mount: Mounted, path: str, kind: dict[str, Any]) -> tuple[int, str]:
    with ExitStack() as closing:
        device = TemporaryMount(mount, closing).device()
        return refused(lambda: device.watch(path, "CREATE", **kind))


@pytest.mark.parametrize(
    "door", [by_hand, by_client, by_async_client, by_inotify, by_async_inotify, by_a_tests_device]
)
@pytest.mark.parametrize(("path", "kind", "code", "said"), BAD)
def test_refused_requests(
    path: str, kind: dict[str, Any], code: int, said: str, door: Door, mount: Mounted
) -> None:
    refusal, message = door(mount, path, kind)
    assert errno.errorcode[refusal] == errno.errorcode[code]
    assert said in message
