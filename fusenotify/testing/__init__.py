# SPDX-License-Identifier: GPL-2.0-or-later
"""Tools for tests; the pytest plugin (fusenotify.pytest_plugin) provides them as fixtures.

Nothing here needs pytest, and only a mount needs FUSE.
"""

from fusenotify.testing.device import MountDevice
from fusenotify.testing.expectations import Seen
from fusenotify.testing.faults import Faults
from fusenotify.testing.mounts import TemporaryMount, temporary_mount, why_no_mounts
from fusenotify.testing.programs import Program, SupervisedProgram
from fusenotify.testing.tree import EngineDevice, EngineTree, OpenFile
from fusenotify.testing.watching import Watcher, assert_events

__all__ = [
    "EngineDevice",
    "EngineTree",
    "Faults",
    "MountDevice",
    "OpenFile",
    "Program",
    "Seen",
    "SupervisedProgram",
    "TemporaryMount",
    "Watcher",
    "assert_events",
    "temporary_mount",
    "why_no_mounts",
]
