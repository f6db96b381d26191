# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin: mounts, devices and engines as fixtures, and their marker.

fusenotify.testing does the work; this module connects it to pytest.  pytest loads
it in every run where fusenotify is installed, so modules that a fixture needs are
imported only when the fixture is used.  docs/how-to/pytest.md is the manual.

Invariant
    A mount is gone when its fixture ends, and a fixture ends with its test or
    session, even after a failure or Ctrl-C.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from fusenotify.testing import EngineTree, MountDevice, TemporaryMount
    from fusenotify.testing.marker import Settings

_MARKER = (
    "fusenotify(max_queued_events=N, max_user_watches=N, max_user_trees=N, max_user_instances=N, "
    "semantics=NAME, access=NAME, faults=BOOL, detailed=BOOL, options=[WORD, ...]): settings of "
    "the test's fusenotify fixtures"
)
_CANNOT = "cannot mount: "


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a wrong marker, whichever fixtures the test uses."""
    if item.get_closest_marker("fusenotify"):
        _settings(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say that tests were skipped, and why; pytest itself gives reasons only with -rs."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            _, found, reason = report.longrepr[2].partition(_CANNOT)
            reasons[reason] += bool(found)
    for reason, number in (+reasons).items():
        tests = (
            "1 test that needs a mount was"
            if number == 1
            else (f"{number} tests that need a mount were")
        )
        terminalreporter.write_line(f"fusenotify: {tests} skipped: {reason}", yellow=True)


@pytest.fixture
def fusenotify_mount(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TemporaryMount]:
    """A mount of an empty temporary directory for one test, with a daemon of its own.

    The marker sets its limits, semantics and options.  Without FUSE the test is
    skipped.
    """
    directory = tmp_path_factory.mktemp("fusenotify")
    with _mount(directory, _settings(request.node)) as mount:
        yield mount


@pytest.fixture
def fusenotify_device(
    request: pytest.FixtureRequest, fusenotify_mount: TemporaryMount
) -> MountDevice:
    """A device of fusenotify_mount that watches nothing yet and never waits.

    The marker may make it a detailed one.
    """
    return fusenotify_mount.device(detailed=_settings(request.node).get("detailed", False))


@pytest.fixture(scope="session")
def fusenotify_session_mount(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TemporaryMount]:
    """Like fusenotify_mount, with default settings, but a single mount for all tests of the run."""
    with _mount(tmp_path_factory.mktemp("fusenotify-session"), {}) as mount:
        yield mount


@pytest.fixture
def fusenotify_session_device(
    request: pytest.FixtureRequest, fusenotify_session_mount: TemporaryMount
) -> Iterator[MountDevice]:
    """A device of fusenotify_session_mount for one test.

    The marker may set its max_queued_events and semantics, and make it a detailed one.
    """
    from fusenotify.testing.marker import device_settings

    try:
        settings = device_settings(_settings(request.node))
    except ValueError as error:
        _refuse(error)
    with fusenotify_session_mount.device(**settings) as device:
        yield device


@pytest.fixture
def fusenotify_engine(request: pytest.FixtureRequest) -> EngineTree:
    """A tree that consists only of the engine's inodes; the test calls its operations.

    The marker sets its limits and semantics.
    """
    from fusenotify.engine.limits import Limits
    from fusenotify.engine.policy import LINUX_6, semantics
    from fusenotify.testing import EngineTree

    settings = _settings(request.node)
    limits = {name: value for name, value in settings.items() if name.startswith("max_")}
    policy = semantics(settings.get("semantics", LINUX_6.name))
    return EngineTree(Limits(**limits), policy)  # type: ignore[arg-type]


@contextlib.contextmanager
def _mount(directory: Path, settings: Settings) -> Iterator[TemporaryMount]:
    from fusenotify import MountFailed
    from fusenotify.testing import temporary_mount, why_no_mounts
    from fusenotify.testing.marker import mount_settings

    if reason := why_no_mounts():
        pytest.skip(_CANNOT + reason)
    try:
        with temporary_mount(directory, **mount_settings(settings)) as mount:
            yield mount
    except MountFailed as error:
        raise pytest.fail.Exception(f"fusenotify: {error}", pytrace=False) from None


def _settings(node: pytest.Item) -> Settings:
    """Return the settings of a test's markers; for each keyword the closest marker counts."""
    from fusenotify.testing import marker

    found: Settings = {}
    try:
        for mark in node.iter_markers("fusenotify"):
            if mark.args:
                raise ValueError(f"{mark.args[0]!r} has no keyword: write keyword=value")
            found = {**marker.settings(mark.kwargs), **found}
    except ValueError as error:
        _refuse(error)
    return found


def _refuse(error: ValueError) -> NoReturn:
    raise pytest.fail.Exception(f"@pytest.mark.fusenotify: {error}", pytrace=False) from None
