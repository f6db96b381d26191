# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine: inotify without a kernel.  No I/O, no trio, no pyfuse3."""
