# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes made directly to SOURCE, behind the mount: heard, and told in order.

listening is where to begin; fs.mount has one of its Behind.
"""
