# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine: inotify without a kernel.  It does no I/O and needs neither trio nor pyfuse3."""
