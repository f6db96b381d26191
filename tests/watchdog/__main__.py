# SPDX-License-Identifier: GPL-2.0-or-later
"""Run watchdog's own tests of observers on a mount, with our observer in the place of its own.

    pip download --no-deps --no-binary :all: watchdog && tar xf watchdog-*.tar.gz
    python -m tests.watchdog watchdog-7.1.0 [PYTEST ARGUMENT ...]

What is behind the directory goes to pytest; without it the tests are TESTS, less those that
do not apply.  The marker "flaky" of theirs is a package of that name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fusenotify
from tests.conftest import REPOSITORY

# Those of observers; others are of watchdog's other parts, and of its wrapper of inotify.
TESTS = ["test_emitter.py", "test_observer.py", "test_observers_api.py", "test_inotify_emitter.py"]
# What looks at, or replaces, private parts of watchdog's own observer: its one descriptor, and the
# walk that adds a watch for each directory.  We have neither.
NOT_APPLICABLE = [
    "test_observer_does_not_initialize_shared_inotify_fd",
    "test_observers_have_independent_inotify_fds",
    "test_observer_delivers_created_events",
    "test_recursive_watch_ignores_subdirectory_errors",
    "test_new_directory_filled_while_its_watches_are_added",
]


def main() -> int:
    """Return pytest's status."""
    parser = argparse.ArgumentParser("python -m tests.watchdog", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("sources", metavar="DIRECTORY", type=Path)
    parser.add_argument("chosen", metavar="PYTEST ARGUMENT", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    sources = arguments.sources.resolve()
    without = [f"--deselect=tests/test_inotify_emitter.py::{name}" for name in NOT_APPLICABLE]
    chosen = arguments.chosen or [*TESTS, *without]
    with tempfile.TemporaryDirectory(prefix="fusenotify-watchdog-") as directory:
        source, mountpoint = Path(directory, "source"), Path(directory, "mnt")
        source.mkdir()
        mountpoint.mkdir()
        with fusenotify.mounted(source, mountpoint):
            return subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-p", "substituted", "-p", "no:fusenotify"),
                    *("-o", "addopts=", f"--basetemp={mountpoint}/tests", "-ra", *chosen),
                ],
                cwd=sources / "tests",
                # Theirs is a package "tests", too: ours is not to be found by that name.
                env={**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{REPOSITORY}"},
                check=False,
            ).returncode


if __name__ == "__main__":
    sys.exit(main())
