# SPDX-License-Identifier: GPL-2.0-or-later
"""Events summed up say what is different between a tree before and after them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusenotify.bits import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
)
from fusenotify.client.changes import Change, Changes, Kind
from fusenotify.client.known_names import known_names
from fusenotify.client.name_tree import NameTree
from fusenotify.protocol.past import PastEvent
from tests.counting import counted_calls

# A tree: by each path an object's number and how often it was modified, None for a directory.
Tree = dict[bytes, tuple[int, int | None]]

_NAMES = [b"a", b"b", b"c"]
_numbers = st.integers(0, 40)
# What is done; to which of the paths there are; in which directory, under which name.
Step = tuple[str, int, int, bytes]
_steps = st.lists(
    st.tuples(
        st.sampled_from(["mkdir", "create", "remove", "modify", "move", "move", "exchange"]),
        _numbers,
        _numbers,
        st.sampled_from(_NAMES),
    ),
    max_size=25,
)


def event(
    mask: int,
    path: bytes,
    old_path: bytes | None = None,
    *,
    replaced: bool = False,
    exchanged: bool = False,
) -> PastEvent:
    return PastEvent(
        cursor="",
        sequence=0,
        time=0,
        mask=mask,
        path=path,
        old_path=old_path,
        replaced=replaced,
        exchanged=exchanged,
    )


class Made:
    """A tree, and the events of what was done to it."""

    def __init__(self) -> None:
        self.tree: Tree = {}
        self.events: list[PastEvent] = []
        self._objects = 0

    def do(self, step: Step) -> None:
        """Do a step, if it can be done."""
        what, number, other_number, name = step
        paths = [*self.tree] or [b"a"]
        path, other = paths[number % len(paths)], paths[other_number % len(paths)]
        directories = [b"", *(path + b"/" for path in self.tree if not self._is_file(path))]
        new = directories[other_number % len(directories)] + name
        match what:
            case "mkdir" | "create":
                self._create(new, what == "mkdir")
            case "remove":
                self._remove(path)
            case "modify" if self._is_file(path):
                thing, times = self.tree[path]
                assert times is not None
                self.tree[path] = thing, times + 1
                self.events.append(event(IN_CLOSE_WRITE, path))
            case "move":
                self._move(path, new)
            case "exchange":
                self._exchange(path, other)

    def _create(self, path: bytes, is_dir: bool) -> None:
        if path in self.tree or not self._has_directory(path):
            return
        self._objects += 1
        self.tree[path] = self._objects, None if is_dir else 0
        self.events.append(event(IN_CREATE | self._isdir(path), path))

    def _remove(self, path: bytes) -> None:
        if path in self.tree and not self._below(path):
            self.events.append(event(IN_DELETE | self._isdir(path), path))
            del self.tree[path]

    def _move(self, path: bytes, to: bytes) -> None:
        if path not in self.tree or not self._has_directory(to) or _inside(to, path) or path == to:
            return
        replaced = to in self.tree
        if replaced and (
            self._isdir(to) != self._isdir(path) or self._below(to) or _inside(path, to)
        ):
            return
        self.events.append(event(IN_MOVED_TO | self._isdir(path), to, path, replaced=replaced))
        self.tree.pop(to, None)
        self._put(to, self._taken(path))

    def _exchange(self, one: bytes, other: bytes) -> None:
        if not {one, other} <= self.tree.keys() or _inside(one, other) or _inside(other, one):
            return
        for old, new in ((one, other), (other, one)):
            mask = IN_MOVED_TO | self._isdir(old)
            self.events.append(event(mask, new, old, exchanged=True))
        first, second = self._taken(one), self._taken(other)
        self._put(other, first)
        self._put(one, second)

    def _taken(self, path: bytes) -> Tree:
        return {p[len(path) :]: self.tree.pop(p) for p in [path, *self._below(path)]}

    def _put(self, path: bytes, taken: Tree) -> None:
        self.tree.update({path + rest: thing for rest, thing in taken.items()})

    def _below(self, path: bytes) -> list[bytes]:
        return [other for other in self.tree if other.startswith(path + b"/")]

    def _is_file(self, path: bytes) -> bool:
        return path in self.tree and self.tree[path][1] is not None

    def _has_directory(self, path: bytes) -> bool:
        above = path.rpartition(b"/")[0]
        return not above or (above in self.tree and not self._is_file(above))

    def _isdir(self, path: bytes) -> int:
        return 0 if self._is_file(path) else IN_ISDIR


def _inside(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory + b"/")


def applied(before: Tree, changes: list[Change]) -> dict[bytes, int | None]:
    """Return what there is after the changes: the objects by their paths, None for new ones."""
    there: dict[bytes, int | None] = {path: number for path, (number, _) in before.items()}

    def take(path: bytes) -> dict[bytes, int | None]:
        return {p[len(path) :]: there.pop(p) for p in [*there] if _inside(p, path)}

    moved = [(change.old_path, change.path) for change in changes if change.old_path is not None]
    arriving: list[tuple[bytes, dict[bytes, int | None]]] = []
    for old_path, path in sorted(moved, reverse=True):  # what is in a directory before that
        arriving.append((path, take(old_path)))
        assert arriving[-1][1], f"{old_path!r} was not there"
    new = [c for c in changes if c.kind is Kind.CREATED or (c.kind is Kind.MODIFIED and c.is_dir)]
    arriving += [(change.path, {b"": None}) for change in new]
    for path, things in sorted(arriving, key=lambda arrival: arrival[0]):
        take(path)
        there.update((path + rest, number) for rest, number in things.items())
    for change in reversed(changes):  # what is in a directory before that
        if change.kind is Kind.DELETED:
            take(change.path)
        elif change.kind is Kind.MODIFIED:  # it is there, whatever it is
            there.setdefault(change.path, None)
    return there


@given(_steps, _steps)
def test_changes_lead_from_the_tree_before_to_the_tree_after(
    first: list[Step], then: list[Step]
) -> None:
    made = Made()
    for step in first:
        made.do(step)
    before, first_events, made.events = dict(made.tree), made.events, []
    for step in then:
        made.do(step)
    changes = Changes()
    changes.add(made.events)
    told = changes.all()
    assert len({change.path for change in told}) == len(told), "each path is named once"
    deleted = {change.path for change in told if change.kind is Kind.DELETED}
    assert not deleted & made.tree.keys()
    after = applied(before, told)
    assert after.keys() == made.tree.keys()
    known = known_names([*first_events, *made.events])
    assert known == {path: times is None for path, (_, times) in made.tree.items()}
    modified = {change.path for change in told if change.kind is Kind.MODIFIED or change.modified}
    numbers = dict(before.values())
    for path, (number, times) in made.tree.items():
        if number not in numbers:
            assert after[path] is None or path in modified, f"{path!r} is new"
        else:
            assert after[path] == number or path in modified, f"{path!r} is another one"
            assert numbers[number] == times or path in modified, f"{path!r} was modified"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [event(IN_MOVED_TO, b"g", b"f", replaced=True), event(IN_MOVED_TO, b"h", b"g")],
            ["deleted g", "moved h from f"],
        ),
        (
            [event(IN_MOVED_TO | IN_ISDIR, b"e", b"d"), event(IN_CLOSE_WRITE, b"e/x")],
            ["moved e from d", "modified e/x"],
        ),
        ([event(IN_CREATE, b"f"), event(IN_DELETE, b"f")], []),
        ([event(IN_DELETE, b"f"), event(IN_CREATE, b"f")], ["modified f"]),
        ([event(IN_ATTRIB, b"f")], ["attributes f"]),
        ([event(IN_ATTRIB, b"f"), event(IN_MODIFY, b"f")], ["modified f"]),
        (
            # The halves of two exchanges with what is outside, and of a rename from there.
            [
                event(IN_MOVED_TO, b"f", exchanged=True),
                event(IN_MOVED_FROM, b"f", exchanged=True),
                event(IN_MOVED_TO, b"g", replaced=True),
            ],
            ["modified f", "modified g"],
        ),
    ],
    ids=[
        *("over another and on", "in a moved directory", "made and removed", "made anew"),
        *("its mode", "its data and mode", "from outside"),
    ],
)
def test_events_add_up(events: list[PastEvent], expected: list[str]) -> None:
    changes = Changes()
    changes.add(events)
    assert [
        f"{change.kind} {change.path.decode()}"
        + (f" from {change.old_path.decode()}" if change.old_path else "")
        for change in changes.all()
    ] == expected


def test_renames_of_directories_cost_nothing_for_names_elsewhere() -> None:
    events = [event(IN_CREATE, b"big/%d" % number) for number in range(10_000)]
    for number in range(2000):
        events.append(event(IN_MOVED_TO | IN_ISDIR, b"d%d" % (number + 1), b"d%d" % number))
    with counted_calls() as calls:
        changes = Changes()
        changes.add(events)
        assert len(changes.all()) == 10_001
        assert len(known_names(events)) == 10_001
    assert calls.number < 100 * len(events)


def test_a_directory_without_a_value_is_there_only_for_what_is_below() -> None:
    tree: NameTree[int] = NameTree()
    tree.set(b"a/b/c", 1)
    tree.set(b"a/d", 2)
    assert [*tree.take(b"a/b/c").items(b"x")] == [(b"x", 1)]
    assert tree._root.below is not None
    assert [*tree._root.below] == [b"a"]
    assert [*tree.take(b"a").items()] == [(b"d", 2)]
    assert not tree._root.below
    assert [*tree.take(b"a").items()] == []
