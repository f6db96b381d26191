# SPDX-License-Identifier: GPL-2.0-or-later
"""fusenotify.watchdog, beside watchdog's own observer, and in watchdog's own tests."""
