# SPDX-License-Identifier: GPL-2.0-or-later
"""The server: it connects clients to a mount's devices over a Unix socket."""

from fusenotify.server.service import Server
from fusenotify.server.tree import Tree

__all__ = ["Server", "Tree"]
