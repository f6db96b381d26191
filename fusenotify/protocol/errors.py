# SPDX-License-Identifier: GPL-2.0-or-later
"""Violations of the protocol.  Refusals of requests are errnos instead.

codec and connection raise these errors; after one, a connection cannot be used any
more.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """A violation of the protocol.  code is an errno that says of what kind it is."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class LocalProtocolError(ProtocolError):
    """We were about to send something that the protocol does not allow: our bug."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something that the protocol does not allow: its bug."""
