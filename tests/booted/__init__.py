# SPDX-License-Identifier: GPL-2.0-or-later
"""The service, and lines of fstab, in a system that has booted: ``python -m tests.booted ROOT``."""
