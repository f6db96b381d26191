# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of pytest in which the plugin is there, whether the project is installed or not."""

from __future__ import annotations

import pytest

from tests.conftest import PLUGIN, REPOSITORY, USERS_PYPROJECT


@pytest.fixture
def users(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's directory of tests."""
    monkeypatch.setenv("PYTEST_PLUGINS", ",".join(PLUGIN))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makepyprojecttoml(USERS_PYPROJECT)
    return pytester
