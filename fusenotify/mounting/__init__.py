# SPDX-License-Identifier: GPL-2.0-or-later
"""Start, check, find and take away a mount.

The command line and ``fusenotify.testing`` stand side by side on this package; it
knows neither of them, parses no arguments and prints nothing.  What cannot be
done is a Failure with a message for the user.
"""
