# SPDX-License-Identifier: GPL-2.0-or-later
"""The difference between expected and seen records, as text for people.

Lines have the form of testing.expectations, so that seen records can be pasted
into a test.  ``-`` marks a record that was expected and not seen, ``+`` one that
was seen and not expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fusenotify.testing.expectations import Expected, Seen, spell
from fusenotify.testing.matching import Pairs, pairs_in_any_order, wrong_cookies

# How many agreeing lines are shown before and after one that differs.
_CONTEXT = 3
# If it takes more comparisons, the differing middle is not aligned line by line.
_MOST_COMPARISONS = 1_000_000


def describe(
    expected: Sequence[Expected], seen: Sequence[Seen], *, any_order: bool, at_least: bool
) -> str:
    """Return the difference as several lines of text."""
    align = pairs_in_any_order if any_order else _aligned
    pairs = align(expected, seen)
    for number in wrong_cookies(expected, seen, pairs):
        del pairs[number]
    show = _lines_in_any_order if any_order else _lines_in_order
    lines = list(show(expected, seen, pairs))
    order = ", in any order" if any_order else ""
    if at_least:
        head = f"not all expected records came{order} (- missing, + others, which are allowed):"
    else:
        head = f"not the expected records{order} (- expected, + got):"
    tail = f"{len(expected)} expected, {len(seen)} got"
    return "\n".join([head, *("  " + line for line in _folded(lines)), tail])


def _lines_in_order(
    expected: Sequence[Expected], seen: Sequence[Seen], pairs: Pairs
) -> Iterator[str]:
    """Yield the lines in order; between two pairs, missing records come first."""
    spelled = speller(expected, seen, pairs)
    next_expected = next_seen = 0
    for number, index in [*sorted(pairs.items()), (len(expected), len(seen))]:
        yield from (f"- {missing}" for missing in expected[next_expected:number])
        yield from (f"+ {spelled(record)}" for record in seen[next_seen:index])
        if index < len(seen):
            yield f"  {spelled(seen[index])}"
        next_expected, next_seen = number + 1, index + 1


def _lines_in_any_order(
    expected: Sequence[Expected], seen: Sequence[Seen], pairs: Pairs
) -> Iterator[str]:
    """Yield the seen records in their order, and then the missing ones."""
    spelled = speller(expected, seen, pairs)
    paired = set(pairs.values())
    for index, record in enumerate(seen):
        yield f"{' ' if index in paired else '+'} {spelled(record)}"
    yield from (f"- {one}" for number, one in enumerate(expected) if number not in pairs)


def speller(
    expected: Sequence[Expected], seen: Sequence[Seen], pairs: Pairs
) -> Callable[[Seen], str]:
    """Return a function that writes a seen record as a line.

    It numbers cookies, and names watches if there are several or an expected line names one.
    """
    several = len({record.watch for record in seen if record.watch}) > 1
    with_watch = several or any(one.watch is not None for one in expected)
    numbers: dict[int, int] = {}
    for number, index in sorted(pairs.items()):
        wanted = expected[number].cookie
        if wanted is not None:
            numbers[seen[index].cookie] = wanted
    used = {*numbers.values(), *(one.cookie for one in expected)}
    free = (number for number in range(1, len(expected) + len(seen) + 2) if number not in used)
    for record in seen:
        if record.cookie and record.cookie not in numbers:
            numbers[record.cookie] = next(free)

    def spelled(record: Seen) -> str:
        watch = record.watch if with_watch and record.watch else None
        return spell(record.mask, record.name, watch, numbers.get(record.cookie), record.old_name)

    return spelled


def _aligned(expected: Sequence[Expected], seen: Sequence[Seen]) -> Pairs:
    """Pair as many records as possible in order, without regard to cookies."""
    start, end = 0, 0
    shorter = min(len(expected), len(seen))
    while start < shorter and expected[start].fits(seen[start]):
        start += 1
    while end < shorter - start and expected[-1 - end].fits(seen[-1 - end]):
        end += 1
    pairs = {number: number for number in range(start)}
    pairs |= {len(expected) - number: len(seen) - number for number in range(1, end + 1)}
    rows = range(start, len(expected) - end)
    columns = range(start, len(seen) - end)
    if len(rows) * len(columns) <= _MOST_COMPARISONS:
        pairs |= _longest_common(expected, seen, rows, columns)
    return pairs


def _longest_common(
    expected: Sequence[Expected], seen: Sequence[Seen], rows: range, columns: range
) -> Pairs:
    """Return the longest common subsequence of two ranges."""
    # best[r][c]: the most pairs of the records from row r and column c on.
    best = [[0] * (len(columns) + 1)]
    for number in reversed(rows):
        below, row = best[-1], [0] * (len(columns) + 1)
        for column in range(len(columns) - 1, -1, -1):
            if expected[number].fits(seen[columns[column]]):
                row[column] = below[column + 1] + 1
            else:
                row[column] = max(below[column], row[column + 1])
        best.append(row)
    best.reverse()
    pairs: Pairs = {}
    row_index = column = 0
    while row_index < len(rows) and column < len(columns):
        if expected[rows[row_index]].fits(seen[columns[column]]):
            pairs[rows[row_index]] = columns[column]
            row_index += 1
            column += 1
        elif best[row_index + 1][column] >= best[row_index][column + 1]:
            row_index += 1
        else:
            column += 1
    return pairs


def _folded(lines: list[str]) -> Iterator[str]:
    """Yield the lines; of a long run of agreeing lines, only its ends."""
    differing = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    shown = {
        near
        for number in differing
        for near in range(number - _CONTEXT, number + _CONTEXT + 1)
        if 0 <= near < len(lines)
    }
    hidden = 0
    for number, line in enumerate(lines):
        if number in shown:
            if hidden:
                yield f"  ... {hidden} more that agree"
            hidden = 0
            yield line
        else:
            hidden += 1
    if hidden:
        yield f"  ... {hidden} more that agree"
