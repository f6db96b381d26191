# SPDX-License-Identifier: GPL-2.0-or-later
"""A NATS server that lets in whom its operator has signed, and credentials as nsc makes them."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

_NO_LIMITS = dict.fromkeys(
    ["subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage"]
    + ["disk_storage", "streams", "consumer"],
    -1,
)


class _Key:
    """A pair of keys of an operator, an account or a user."""

    def __init__(self, prefix: int) -> None:
        self.seed: bytes = nkeys.encode_seed(os.urandom(32), prefix)
        self.pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self.pair.public_key.decode()

    def signed(self, subject: str, **claims: Any) -> str:
        """Return a JSON Web Token about a subject."""
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        payload = {
            "jti": os.urandom(8).hex(),
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject,
            "nats": {"version": 2, **claims},
        }
        text = b".".join([_encoded(json.dumps(each).encode()) for each in (header, payload)])
        return (text + b"." + _encoded(self.pair.sign(text))).decode()


def settings_and_credentials(file: Path) -> str:
    """Write a user's credentials to a file; return the settings of a server that takes them."""
    operator = _Key(nkeys.PREFIX_BYTE_OPERATOR)
    system, account = _Key(nkeys.PREFIX_BYTE_ACCOUNT), _Key(nkeys.PREFIX_BYTE_ACCOUNT)
    user = _Key(nkeys.PREFIX_BYTE_USER)
    limits = {**_NO_LIMITS, "wildcards": True}
    tokens = {
        each.public: operator.signed(each.public, type="account", limits=each_limits)
        for each, each_limits in ((system, {}), (account, limits))
    }
    user_token = account.signed(
        user.public, type="user", pub={}, sub={}, subs=-1, data=-1, payload=-1
    )
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return (
        f"operator: {operator.signed(operator.public, type='operator')}\n"
        f"system_account: {system.public}\n"
        "resolver: MEMORY\n"
        f"resolver_preload: {json.dumps(tokens)}\n"
    )


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
