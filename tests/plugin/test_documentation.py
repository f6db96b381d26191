# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/how-to/pytest.md: its failure looks as shown, and it names everything."""

from __future__ import annotations

import inspect
import re

import pytest

import fusenotify.testing
from fusenotify import pytest_plugin
from fusenotify.testing import EngineTree, MountDevice, TemporaryMount
from fusenotify.testing.marker import Settings
from tests.conftest import REPOSITORY

MANUAL = (REPOSITORY / "docs" / "how-to" / "pytest.md").read_text()


def examples(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.mount
def test_the_failure_looks_as_shown(users: pytest.Pytester) -> None:
    (shown,) = (text for text in examples(MANUAL, "text") if text.startswith(">"))
    users.makepyfile(
        """
        from fusenotify.testing import assert_events

        def test_it(fusenotify_mount, fusenotify_device):
            fusenotify_device.watch()
            (fusenotify_mount.path / "a").touch()
            {}
        """.format(shown.splitlines()[0].removeprefix(">").strip())
    )
    result = users.runpytest()
    result.assert_outcomes(failed=1)
    output = result.stdout.str()
    for line in shown.splitlines():
        assert line in output


def test_the_manual_names_everything() -> None:
    names = set(Settings.__annotations__)
    names |= {name for name in vars(pytest_plugin) if name.startswith("fusenotify_")}
    for kind in (TemporaryMount, EngineTree, MountDevice):
        names |= {
            name
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }
    names |= {name for name in fusenotify.testing.__all__ if name.islower()}
    names -= {"begin", "about_to_end", "give_up"}  # which only reports call
    unnamed = {name for name in names if name not in MANUAL}
    assert names
    assert unnamed == set()
