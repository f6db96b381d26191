# SPDX-License-Identifier: GPL-2.0-or-later
"""A load on a filesystem: trees made, written, renamed and removed, for ever.

    python -m tests.server.load DIRECTORY

tests.server.soak runs some of it, and kills them at the end.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from pathlib import Path

DIRECTORIES = 10
FILES = 20


def work(top: Path, turn: int) -> None:
    """Make a tree, work in it, remove it."""
    tree = top / f"tree-{turn}"
    for number in range(DIRECTORIES):
        directory = tree / f"directory-{number}"
        directory.mkdir(parents=True)
        for name in range(FILES):
            path = directory / f"file-{name}"
            path.write_bytes(os.urandom(100 * (name + 1)))
            path.chmod(0o640)
            if name % 2:
                path.rename(directory / f"renamed-{name}")
            else:
                os.link(path, directory / f"link-{name}")
        directory.rename(tree / f"moved-{number}")
    for path in sorted(tree.rglob("file-*")):
        path.read_bytes()
        path.unlink()
    shutil.rmtree(tree)


if __name__ == "__main__":
    for number in itertools.count():
        work(Path(sys.argv[1]), number)
