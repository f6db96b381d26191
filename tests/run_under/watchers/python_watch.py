# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints what a library for Python tells of a directory: python_watch.py LIBRARY DIRECTORY."""

from __future__ import annotations

import asyncio
import sys
import time


def watchdog(directory: str) -> None:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            print(event.event_type, event.src_path, event.dest_path, flush=True)

    observer = Observer()
    observer.schedule(Handler(), directory, recursive=True)
    observer.start()
    print("ready", flush=True)
    while observer.is_alive():
        time.sleep(1)
    print("the observer ended", flush=True)


def watchfiles(directory: str) -> None:
    from watchfiles import watch

    is_ready = False
    for changes in watch(directory, debounce=50, step=10, rust_timeout=100, yield_on_timeout=True):
        for change, path in sorted(changes):
            print(change.name, path, flush=True)
        if not changes and not is_ready:
            is_ready = True
            print("ready", flush=True)


def inotify_simple(directory: str) -> None:
    from inotify_simple import INotify, flags  # type: ignore[import-untyped]

    inotify = INotify()
    inotify.add_watch(directory, 0xFFF)
    print("ready", flush=True)
    while True:
        for event in inotify.read():
            names = "|".join(flag.name or "" for flag in flags.from_mask(event.mask))
            print(event.wd, names, event.name, flush=True)


def asyncinotify(directory: str) -> None:
    from asyncinotify import Inotify, Mask

    async def main() -> None:
        with Inotify() as inotify:
            inotify.add_watch(directory, Mask(0xFFF))
            print("ready", flush=True)
            async for event in inotify:
                print(repr(event.mask), event.name, flush=True)

    asyncio.run(main())


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
