# SPDX-License-Identifier: GPL-2.0-or-later
"""fusenotify: an inotify of its own for a directory tree."""
