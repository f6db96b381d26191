# SPDX-License-Identifier: GPL-2.0-or-later
"""Events with paths, as an Inotify returns them.

client.watched makes them from a device's records and events.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, Protocol

from typing_extensions import TypeVar

from fusenotify.masks import Mask
from fusenotify.protocol.past import PastEvent

# The type of an event's paths: str if the watched path was given as text, otherwise bytes.
Text = TypeVar("Text", str, bytes, default=str)
Text_co = TypeVar("Text_co", covariant=True)


class InotifyEvent(NamedTuple, Generic[Text]):
    """One event.

    wd, mask, cookie and name are those of inotify(7).  name is None if the
    event is about the watched object itself.  For a tree watch, name is the
    path from the watched directory; it ends in a slash if the event is about
    a directory below, reported by that directory itself.  path is the path of
    the object: the watched path, as it was given, joined with the name,
    without a slash at the end.  It is empty for IN_Q_OVERFLOW.

    name and path are str if the watched path was str or an os.PathLike of
    str, and bytes if it was bytes.  For IN_Q_OVERFLOW the first watch decides.
    """

    wd: int
    mask: Mask
    cookie: int
    name: Text | None
    path: Text


class DetailedInotifyEvent(NamedTuple, Generic[Text]):
    """One event with all its details.  A detail that is not known is None.

    wd, mask, cookie, name and path are those of InotifyEvent.  The others,
    except old_path, are those of DetailedEvent (fusenotify.protocol.details):
    sequence is the event's number in the order of the mount; time is in ns
    since 1970; pid, uid, gid and command describe the process that caused the
    event, if this client may know it.  command and old_path are str or bytes,
    like name and path.

    A rename from one watched place to another is one event: its mask is that
    of IN_MOVED_TO, path is the new path, and old_path is the path before, which
    is the watched path as it was given, joined with the old name.

    behind says that SOURCE itself was changed, past the mount.

    lost is the number of events that an IN_Q_OVERFLOW stands for.  It is None
    if the number is unknown because the connection was lost; sequence is then
    0, and the numbers begin again.

    past is the entry of the journal from which the event was made, for an Inotify with
    since: it has the cursor after the event, and the reason of a gap.  sequence is 0 then.
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
    behind: bool = False
    past: PastEvent | None = None


class HasPath(Protocol[Text_co]):
    """Both kinds of events, by the type of their paths."""

    @property
    def path(self) -> Text_co: ...


# The type of events that an Inotify returns.
Told = TypeVar("Told", bound=HasPath[Any], covariant=True, default=InotifyEvent[str])
