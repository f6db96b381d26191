# SPDX-License-Identifier: GPL-2.0-or-later
"""One client that drains a watch, in a process of its own.

tests.bench.filesystems runs this module as a program: it watches a directory
for everything, says "ready", takes what the server pushes, and says how many
bytes of records came when the server closes the connection at the unmount.
With --tree it is a tree watch.
"""

from __future__ import annotations

import sys

from fusenotify.bits import IN_ALL_EVENTS
from fusenotify.client import Client, ConnectionLost


def main() -> None:
    *tree, socket, directory = sys.argv[1:]
    received = 0
    with Client(socket) as client:
        device = client.init()
        device.add_watch(directory, IN_ALL_EVENTS, tree=tree == ["--tree"])
        print("ready", flush=True)
        try:
            for records in device.stream():
                received += len(records)
        except ConnectionLost:
            pass  # the unmount ends the connection, and so the benchmark
    print(received, flush=True)


if __name__ == "__main__":
    main()
