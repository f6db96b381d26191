# SPDX-License-Identifier: GPL-2.0-or-later
"""fusenotify: an inotify of its own for a directory tree.

``fusenotify.mounted`` mounts one for a block; ``fusenotify.client`` watches.
"""

from fusenotify.mounting.mounted import Mounted, MountFailed, mounted

__all__ = ["MountFailed", "Mounted", "mounted"]
