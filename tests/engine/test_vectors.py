# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine answers as the seed's C code did."""

from __future__ import annotations

from typing import Any

import pytest

from fusenotify.engine.core import Core
from fusenotify.engine.device import DeviceTable
from fusenotify.engine.limits import Limits
from tests.engine.vectors import POLICIES, SeedEngine, check, vectors


@pytest.mark.parametrize("vector", vectors())
def test_answers_as_the_seed_does(vector: dict[str, Any]) -> None:
    table = DeviceTable(Core(), Limits(), POLICIES[vector["coalesce"]])
    check(SeedEngine(table), vector)
