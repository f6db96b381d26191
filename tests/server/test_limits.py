# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits are shown to everybody; root and the daemon's user set them, all they name or none."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict

import pytest

from fusenotify.admission import Quotas
from fusenotify.credentials import Credentials
from fusenotify.engine.limits import MOST, Limits
from fusenotify.masks import IN_CREATE
from fusenotify.protocol.messages import (
    AddWatch,
    Error,
    LimitsAre,
    LimitsOf,
    Status,
    StatusOf,
    WatchAdded,
)
from fusenotify.server.limits import limits_status, set_limits
from tests.server.conftest import Served

ANN = Credentials(pid=2, uid=1001, gid=1001)


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_root_and_the_daemons_user_set_what_they_name(uid: int) -> None:
    limits = Limits()
    who = Credentials(pid=2, uid=uid, gid=uid)
    set_limits(limits, LimitsOf(max_user_watches=0, max_queued_events=MOST), who)
    assert limits == Limits(max_user_watches=0, max_queued_events=MOST)


@pytest.mark.parametrize("limit", asdict(Limits()))
def test_each_limit_can_be_set_alone(limit: str) -> None:
    limits = Limits()
    set_limits(limits, LimitsOf(**{limit: 7}), Credentials(pid=2, uid=0, gid=0))
    assert limits == Limits(**{limit: 7})
    assert getattr(limits_status(limits, Quotas()), limit) == 7


@pytest.mark.parametrize("limit", asdict(Limits()))
def test_others_may_only_ask(limit: str) -> None:
    limits = Limits()
    set_limits(limits, LimitsOf(), ANN)
    with pytest.raises(PermissionError, match="only root and the daemon's user"):
        set_limits(limits, LimitsOf(**{limit: getattr(limits, limit)}), ANN)
    assert limits == Limits()


@pytest.mark.parametrize("number", [-1, MOST + 1, 2**63])
@pytest.mark.parametrize("limit", asdict(Limits()))
def test_of_several_none_is_set_where_one_is_out_of_range(limit: str, number: int) -> None:
    limits = Limits()
    request = LimitsOf(**{**dict.fromkeys(asdict(limits), 7), limit: number})
    with pytest.raises(OSError, match=f"{limit} is 0 to {MOST}, not {number}") as refused:
        set_limits(limits, request, Credentials(pid=2, uid=0, gid=0))
    assert refused.value.errno == errno.EINVAL
    assert limits == Limits()


@pytest.mark.trio
async def test_a_new_limit_is_answered_and_in_force_at_once(served: Served) -> None:
    peer = await served.connect()
    device = await peer.device()
    before = await peer.ask(LimitsOf())
    assert isinstance(before, LimitsAre)
    assert (before.limits.max_user_watches, before.limits.max_user_trees) == (8192, 128)
    after = await peer.ask(LimitsOf(max_user_watches=1))
    assert (after.limits.max_user_watches, after.limits.max_user_trees) == (1, 128)
    status = await peer.ask(StatusOf())
    assert isinstance(status, Status)
    assert status.limits == after.limits
    served.tree.make("docs", directory=True)
    added = await peer.ask(AddWatch(device=device, path=b"/", mask=IN_CREATE))
    assert isinstance(added, WatchAdded)
    refused = await peer.ask(AddWatch(device=device, path=b"docs", mask=IN_CREATE))
    assert isinstance(refused, Error)
    assert refused.errno == errno.ENOSPC
    refused = await peer.ask(LimitsOf(max_user_watches=-1))
    assert isinstance(refused, Error)
    assert refused.errno == errno.EINVAL
