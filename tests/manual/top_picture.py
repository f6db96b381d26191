# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.manual.top_picture FILE.svg: take the manual's picture of ``fusenotify top``.

Programs work in a mount of /tmp/project, which must not exist; two clients watch it, one of
which does not read.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

import fusenotify
from tests.cli.command import environment

FUSENOTIFY = [os.path.join(os.path.dirname(sys.executable), "fusenotify")]
PROJECT = "/tmp/project"
WORK = [
    "while :; do cp -r src build; python3 -m compileall -q build; rm -r build; done",
    "while :; do tar c src | tar x -C out; find out -name '*.py' -exec touch {} +; done",
    "while :; do sed -i 's/^/ /' notes; mv notes notes~; echo note > notes; sleep 0.05; done",
]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.manual.top_picture", description=__doc__)
    parser.add_argument("picture", metavar="FILE.svg", type=os.path.abspath)
    picture = parser.parse_args().picture
    os.mkdir(PROJECT)
    try:
        for directory in ("src/pkg", "src/tests", "out"):
            os.makedirs(f"{PROJECT}/{directory}")
        for number in range(20):
            for name in (f"pkg/m{number}.py", f"tests/test_m{number}.py"):
                with open(f"{PROJECT}/src/{name}", "w") as file:
                    file.write(f"def f():\n    return {number}\n")
        with open(f"{PROJECT}/notes", "w"):
            pass
        with fusenotify.mounted(PROJECT, max_queued_events=16384) as mounted:
            _take(mounted, picture)
    finally:
        shutil.rmtree(PROJECT)
    return 0


def _take(mounted: fusenotify.Mounted, picture: str) -> None:
    programs = [
        subprocess.Popen(["sh", "-c", work], cwd=PROJECT, start_new_session=True) for work in WORK
    ]
    watcher = subprocess.Popen(
        [*FUSENOTIFY, "wait", "-m", "-r", PROJECT],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with mounted.client() as client:
            client.init(max_queued_events=64).add_watch("/src/pkg", "ALL_EVENTS")
            subprocess.run(
                [*FUSENOTIFY, "top", "-n", "8", "--screenshot", picture, PROJECT],
                env=environment() | {"COLUMNS": "80", "LINES": "24"},
                check=True,
            )
    finally:
        for program in programs:
            os.killpg(program.pid, 9)
            program.wait()
        watcher.kill()
        watcher.wait()


if __name__ == "__main__":
    sys.exit(main())
