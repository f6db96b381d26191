# SPDX-License-Identifier: GPL-2.0-or-later
"""Start, check, find and unmount a mount.

The command line and ``fusenotify.testing`` are built on this package.  It uses
neither of them, parses no arguments and prints nothing.  If something cannot be
done, it raises Failure, with a message for the user.
"""
