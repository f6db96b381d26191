# SPDX-License-Identifier: GPL-2.0-or-later
"""Events with paths, as an Inotify gives them.

client.watched makes them of what a device gives.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Protocol

from typing_extensions import TypeVar

from fusenotify.masks import Mask

# What an event's paths are: text where the watched path was given as text, else bytes.
Text = TypeVar("Text", str, bytes, default=str)
Text_co = TypeVar("Text_co", covariant=True)


class InotifyEvent(NamedTuple, Generic[Text]):
    """One event.

    wd, mask, cookie and name (None where it is about the watched object itself)
    are those of inotify(7); of a tree watch, name is the path from the watched
    directory, which ends in a slash where a directory below says it of itself.
    path is that of the object: the watched path, as it was given, and the name,
    without a slash at the end; empty for IN_Q_OVERFLOW.

    name and path are str where the watched path was str or an os.PathLike of
    str, bytes where it was bytes; with the first watch's for IN_Q_OVERFLOW.
    """

    wd: int
    mask: Mask
    cookie: int
    name: Text | None
    path: Text


class DetailedInotifyEvent(NamedTuple, Generic[Text]):
    """One event with all that is known of it.  What is not is None.

    wd, mask, cookie, name and path are those of InotifyEvent; the rest, but for
    old_path, is that of DetailedEvent (fusenotify.protocol.details): sequence is
    its number in the mount's order, time in ns since 1970; pid, uid, gid and
    command are of the process that did it, where we may know.  command and old_path are
    str or bytes as name and path are.

    A rename within what is watched is one event: its mask is that of IN_MOVED_TO,
    path the new one and old_path the one before, the watched path as it was given
    and the old name.

    lost is how many events an IN_Q_OVERFLOW stands for; None where nobody knows,
    because the connection was lost.  Then sequence is 0: numbers begin again.
    """

    wd: int
    mask: Mask
    cookie: int
    name: Text | None
    path: Text
    is_dir: bool = False
    old_path: Text | None = None
    sequence: int = 0
    time: int = 0
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    command: Text | None = None
    lost: int | None = None


class HasPath(Protocol[Text_co]):
    """What both kinds of events are, for the type of what is watched."""

    @property
    def path(self) -> Text_co: ...


# What an Inotify gives.
Told = TypeVar("Told", bound=HasPath[Any], covariant=True, default=InotifyEvent[str])
