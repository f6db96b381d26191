# SPDX-License-Identifier: GPL-2.0-or-later
"""A log of all requests of the filesystem, for ``fusenotify mount --debug``.

mounting.daemon makes the class of requests with logged() only where the log is wanted, so
that no request costs more where it is not.  Contents of files and of attributes are not
in the log, only their lengths.
"""

from __future__ import annotations

import errno
import functools
import inspect
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pyfuse3

from fusenotify.fs.operations import Operations

log = logging.getLogger(__name__)

# What is not shown: contents, and where pyfuse3 has what fields name and what is listed.
_CONTENTS = {"buf", "value"}
_UNSAID = {"attr", "token"}
_MOST_LISTED = 8
_GIVE_CONTENTS = {"getxattr", "read"}


def wanted() -> bool:
    """Return whether requests shall be logged."""
    return log.isEnabledFor(logging.DEBUG)


def logged(operations: type[Operations]) -> type[Operations]:
    """Return a class that does as operations do and says so."""
    requests = {
        name: _logged(name, method)
        for name in dir(pyfuse3.Operations)
        if inspect.iscoroutinefunction(method := getattr(operations, name, None))
        and method is not getattr(pyfuse3.Operations, name)
    }
    return type(f"Logged{operations.__name__}", (operations,), requests)


def _logged(
    name: str, method: Callable[..., Coroutine[Any, Any, Any]]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    parameters = [*inspect.signature(getattr(pyfuse3.Operations, name)).parameters][1:]

    @functools.wraps(method)
    async def answer(self: Operations, /, *args: Any) -> Any:
        call = _call(name, parameters, args)
        try:
            result = await method(self, *args)
        except pyfuse3.FUSEError as refusal:
            log.debug("%s: %s", call, errno.errorcode.get(refusal.errno, refusal.errno))
            raise
        shown = f"{len(result)} bytes" if name in _GIVE_CONTENTS else _shown(result)
        log.debug("%s = %s", call, shown)
        return result

    return answer


def _call(name: str, parameters: Sequence[str], args: Sequence[Any]) -> str:
    who = ""
    words = []
    for parameter, value in zip(parameters, args, strict=False):
        if isinstance(value, pyfuse3.RequestContext):
            who = f" by thread {value.pid}, user {value.uid}"
        elif parameter in _CONTENTS:
            words.append(f"{parameter} of {len(value)} bytes")
        elif parameter not in _UNSAID:
            words.append(f"{parameter} {_shown(value)}")
    return f"{name}({', '.join(words)}){who}"


def _shown(value: Any) -> str:
    """Return an argument or an answer in a word; control characters are escaped."""
    match value:
        case None:
            return "done"
        case pyfuse3.EntryAttributes():
            return f"inode {value.st_ino}" if value.st_ino else "no such name"
        case pyfuse3.FileInfo():
            return f"handle {value.fh}"
        case pyfuse3.SetattrFields():
            given = [field for field in dir(value) if field.startswith("update_")]
            return "+".join(field[7:] for field in given if getattr(value, field)) or "nothing"
        case bytes() if len(value) > 255:
            return f"{len(value)} bytes"
        case bytes() | int() | str():
            return repr(value)
        case list() if len(value) > _MOST_LISTED:
            return f"{len(value)} of them"
        case tuple() | list():
            return ", ".join(map(_shown, value))
        case _:
            return type(value).__name__
