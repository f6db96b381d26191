# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's share of the thread: a burst at once, a share in the long run, trifles for free."""

from __future__ import annotations

import pytest

from fusenotify.engine.time_share import BURST, FREE, SHARE, TimeShare


class Clocks:
    """Time as the test says, of the day and of the processor."""

    now = 1000.0
    run = 0.0

    def share(self) -> TimeShare:
        return TimeShare(lambda: self.now, lambda: self.run)

    def take(self, share: TimeShare, seconds: float) -> None:
        share.begin()
        self.run += seconds
        self.now += seconds
        share.end()


def test_a_burst_is_allowed_at_once_and_more_has_to_wait() -> None:
    clocks = Clocks()
    share = clocks.share()
    clocks.take(share, BURST)
    assert not share.wait()
    clocks.take(share, BURST)
    assert share.wait() == pytest.approx(BURST / SHARE, rel=0.2)
    clocks.now += share.wait()
    assert not share.wait()


def test_in_the_long_run_it_is_a_share() -> None:
    clocks = Clocks()
    share = clocks.share()
    began = clocks.now
    while clocks.now < began + 100:
        clocks.now += share.wait()
        clocks.take(share, 0.02)
    assert clocks.run == pytest.approx(100 * SHARE, rel=0.1)


def test_short_work_is_free() -> None:
    clocks = Clocks()
    share = clocks.share()
    for _ in range(100_000):
        clocks.take(share, FREE)
    assert not share.wait()


def test_long_work_uses_the_time_up() -> None:
    clocks = Clocks()
    share = clocks.share()
    share.begin()
    assert not share.is_used_up()
    clocks.run += 2 * BURST
    assert share.is_used_up()
