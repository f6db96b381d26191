# SPDX-License-Identifier: GPL-2.0-or-later
"""What server and clients say to each other.  No I/O; docs/reference/protocol.md is its manual."""
