# SPDX-License-Identifier: GPL-2.0-or-later
"""What known inodes cost: a mount of many empty files walked, and forgotten.

    python -m tests.fs.walk [FILES]

Run as root, with no other load: to make the kernel forget it drops its caches.
Memory that Python keeps for itself when its objects are gone stays the daemon's.
The files are made in a temporary directory, 1,000 to a directory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import fusenotify


def main(files: int) -> None:
    with tempfile.TemporaryDirectory() as top:
        source, mountpoint = Path(top, "source"), Path(top, "mnt")
        mountpoint.mkdir()
        for number in range(files):
            if number % 1000 == 0:
                directory = source / str(number // 1000)
                directory.mkdir(parents=True)
            os.mknod(directory / str(number))
        with fusenotify.mounted(source, mountpoint) as mount:
            before = _show("before", mount.pid)
            for walk in ("walked", "walked again"):
                start = time.monotonic()
                found = sum(len(names) for _, _, names in os.walk(mountpoint))
                assert found == files
                after = _show(walk, mount.pid, time.monotonic() - start)
            print(f"{1024 * (after - before) / files:.0f} bytes for each file")
            start = time.monotonic()
            Path("/proc/sys/vm/drop_caches").write_text("2")
            time.sleep(5)  # nothing tells when the kernel has said it all
            _show("forgotten", mount.pid, time.monotonic() - start)


def _show(when: str, pid: int, seconds: float = 0.0) -> int:
    """Print what the daemon has, and return its memory in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (resident,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    print(
        f"{when:12} {seconds:7.1f} s  {resident:9,} KiB  {descriptors:7,} descriptors", flush=True
    )
    return resident


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.fs.walk", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("files", metavar="FILES", type=int, nargs="?", default=100_000)
    main(parser.parse_args().files)
