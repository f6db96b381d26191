# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol of server and clients, without I/O.  docs/reference/protocol.md describes it."""
