# SPDX-License-Identifier: GPL-2.0-or-later
"""fusenotify: an inotify of its own for a directory tree.

``fusenotify.mounted`` mounts a directory during a with block; ``fusenotify.client``
has the clients that watch it.
"""

from fusenotify.mounting.mounted import Mounted, MountFailed, mounted

__all__ = ["MountFailed", "Mounted", "mounted"]
