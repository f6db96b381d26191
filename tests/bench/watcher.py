# SPDX-License-Identifier: GPL-2.0-or-later
"""One client that drains a watch, in a process of its own.

tests.bench.filesystems runs this module as a program: it watches a directory
for everything, says "ready", takes what the server pushes, and says how many
bytes of records came when the server closes the connection at the unmount.
With --recursive it watches the directories below too, those made later as it
hears of them, as any recursive watcher does.
"""

from __future__ import annotations

import contextlib
import os
import sys

from fusenotify.client import Client, ConnectionLost, Device
from fusenotify.events import unpack
from fusenotify.masks import IN_ALL_EVENTS, IN_CREATE, IN_IGNORED, IN_ISDIR, IN_MOVED_TO


class Tree:
    """The watched directories of one device: paths by wd, relative to the mount's root."""

    def __init__(self, device: Device, mountpoint: str) -> None:
        self.device = device
        self.mountpoint = mountpoint
        self.paths: dict[int, str] = {}

    def watch(self, path: str) -> None:
        """Watch a directory and those below it; what is gone meanwhile is left."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.paths[self.device.add_watch(path, IN_ALL_EVENTS)] = path
            with os.scandir(os.path.join(self.mountpoint, path)) as entries:
                below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            for name in below:
                self.watch(os.path.join(path, name))

    def follow(self, records: bytes) -> None:
        """Watch the directories that came, forget those that went."""
        for wd, mask, _, name in unpack(records):
            if mask & IN_IGNORED:
                self.paths.pop(wd, None)
            elif mask & IN_ISDIR and mask & (IN_CREATE | IN_MOVED_TO) and wd in self.paths:
                self.watch(os.path.join(self.paths[wd], os.fsdecode(name or b"")))


def main() -> None:
    *recursive, socket, mountpoint, directory = sys.argv[1:]
    received = 0
    with Client(socket) as client:
        device = client.init()
        tree = Tree(device, mountpoint)
        if recursive:
            tree.watch(directory)
        else:
            device.add_watch(directory, IN_ALL_EVENTS)
        print("ready", flush=True)
        try:
            for records in device.stream():
                received += len(records)
                if recursive:
                    tree.follow(records)
        except ConnectionLost:
            pass  # the unmount ends the connection, and so the benchmark
    print(received, flush=True)


if __name__ == "__main__":
    main()
