# SPDX-License-Identifier: GPL-2.0-or-later
"""A file with credentials, as nsc makes it: a user's token, and the seed of the user's key.

nats-py reads the file itself, and fails in many ways, or never ends, if it is something else.
"""

from __future__ import annotations

import os
import re
import stat

# More than any file with credentials has.
_MOST_BYTES = 64 * 1024
_FORM = re.compile(
    rb"-----BEGIN NATS USER JWT-----\n[\w.-]+\n-+END NATS USER JWT-+\n"
    rb".*-----BEGIN USER NKEY SEED-----\n(\w+)\n-+END USER NKEY SEED-+\s.*",
    re.DOTALL | re.ASCII,
)


def check(path: str) -> None:
    """Check that a file has credentials.

    Raises ValueError if it has none, or if nkeys is not installed; OSError.
    """
    try:
        import nkeys
    except ModuleNotFoundError as error:
        raise ValueError(
            f"credentials need nkeys, which cannot be imported ({error}): "
            "pip install 'fusenotify[nats]'"
        ) from None
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe may take for ever
        raise ValueError(f"{path} is not a regular file")
    with open(path, "rb") as file:
        found = _FORM.search(file.read(_MOST_BYTES))
    try:
        if found is None:
            raise ValueError
        nkeys.from_seed(bytearray(found[1]))
    except (nkeys.NkeysError, ValueError):
        raise ValueError(f"{path} has no credentials such as nsc makes") from None
