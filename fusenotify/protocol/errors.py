# SPDX-License-Identifier: GPL-2.0-or-later
"""Violations of the protocol, apart from the refusals that are errnos.

codec and connection raise them; a connection that saw one is of no further use.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """The protocol was violated.  code is the errno that says how."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class LocalProtocolError(ProtocolError):
    """We were about to send what the protocol does not allow: our bug."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what the protocol does not allow: theirs."""
