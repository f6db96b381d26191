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
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, NoReturn, Unpack

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from fusenotify.testing import EngineTree, MountDevice, SupervisedProgram, TemporaryMount
    from fusenotify.testing.marker import DeviceSettings, Settings

_MARKER = (
    "fusenotify(max_queued_events=N, max_user_watches=N, max_user_trees=N, max_user_instances=N, "
    "semantics=NAME, access=NAME, behind=NAME, faults=BOOL, detailed=BOOL, options=[WORD, ...]): "
    "settings of the test's fusenotify fixtures"
)
_CANNOT = "cannot mount: "

# When a test began, in ns since 1970, and whether one of its reports has sections of ours.
_BEGAN = pytest.StashKey[int]()
_SAID = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note that a test begins, and refuse a wrong marker whether or not the test uses it."""
    item.stash[_BEGAN] = time.time_ns()
    if _SAID in item.stash:  # it is run again
        del item.stash[_SAID]
    if register := sys.modules.get("fusenotify.testing.register"):
        register.begin()
    if item.get_closest_marker("fusenotify"):
        _settings(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add sections about devices and mounts to the report of a failed test."""
    error = call.excinfo.value if call.excinfo is not None else None
    shows_frames = getattr(error, "pytrace", True) and not item.config.option.fulltrace
    if shows_frames:
        _hide_frames(error)
    report = yield
    began = item.stash.get(_BEGAN, None)
    asked = report.passed and report.when == "call" and "P" in _reported(item.config)
    wanted = (report.failed or asked) and _SAID not in item.stash
    if began is not None and wanted and (found := _sections(item, began, report.when == "setup")):
        item.stash[_SAID] = True
        report.sections += found
    return report


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
        mount.name = "fusenotify_mount"
        yield mount


@pytest.fixture
def fusenotify_device(
    request: pytest.FixtureRequest, fusenotify_mount: TemporaryMount
) -> MountDevice:
    """A device of fusenotify_mount that watches nothing yet and never waits.

    The marker may make it a detailed one.
    """
    detailed = _settings(request.node).get("detailed", False)
    return _device(fusenotify_mount, "fusenotify_device", detailed=detailed)


@pytest.fixture
def fusenotify_run() -> Iterator[Callable[..., SupervisedProgram]]:
    """What starts a program under ``fusenotify run``; all end with the test.

    It takes what fusenotify.testing.SupervisedProgram does.  Where programs
    cannot be supervised the test is skipped.
    """
    from fusenotify.testing import SupervisedProgram
    from fusenotify.testing.programs import why_not_supervised

    if reason := why_not_supervised():
        pytest.skip(f"cannot run programs supervised: {reason}")
    with contextlib.ExitStack() as ending:
        yield lambda *command, **settings: ending.enter_context(
            SupervisedProgram(*command, **settings)
        )


@pytest.fixture(scope="session")
def fusenotify_session_mount(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TemporaryMount]:
    """Like fusenotify_mount, with default settings, but a single mount for all tests of the run."""
    with _mount(tmp_path_factory.mktemp("fusenotify-session"), {}) as mount:
        mount.name, mount.is_shared = "fusenotify_session_mount", True
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
    with _device(fusenotify_session_mount, "fusenotify_session_device", **settings) as device:
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
    if "fusenotify_mount" not in request.fixturenames:
        from fusenotify.testing.marker import check_has_a_mount

        try:
            check_has_a_mount(settings)
        except ValueError as error:
            _refuse(error)
    limits = {name: value for name, value in settings.items() if name.startswith("max_")}
    policy = semantics(settings.get("semantics", LINUX_6.name))
    tree = EngineTree(Limits(**limits), policy)  # type: ignore[arg-type]
    tree.name = "fusenotify_engine"
    return tree


def _sections(item: pytest.Item, began: int, in_setup: bool) -> list[tuple[str, str]]:
    """Return titles and texts of a test's sections; from setup only if something happened."""
    if "fusenotify.testing.register" not in sys.modules:
        return []  # it had nothing of ours
    from fusenotify.testing.report import sections

    fixtures = getattr(item, "funcargs", {})
    return [
        (each.title, "\n".join(each.lines))
        for each in sections(fixtures, began)
        if each.says_something or not in_setup
    ]


def _reported(config: pytest.Config) -> str:
    """Return the letters that -r stands for; "P" asks for the sections of passed tests."""
    letters = ""
    for letter in config.option.reportchars:
        letters = {"A": letters + "P", "N": ""}.get(letter, letters + letter)
    return letters


def _hide_frames(error: BaseException | None) -> None:
    """Make an error's tracebacks end where the test or its fixture called the plugin.

    The frames of fusenotify.client are hidden only if fusenotify.testing called it.
    A test that calls it itself sees them, so no module can hide its own frames.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        waiting += [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        within = False
        for frame, _ in traceback.walk_tb(error.__traceback__):
            module = frame.f_globals.get("__name__", "")
            within = within or _is_the_plugins(module)
            if within and module.startswith("fusenotify."):
                frame.f_locals["__tracebackhide__"] = True  # where pytest looks for it


def _is_the_plugins(module: str) -> bool:
    return module == __name__ or module.startswith("fusenotify.testing.")


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


def _device(mount: TemporaryMount, name: str, **settings: Unpack[DeviceSettings]) -> MountDevice:
    try:
        device = mount.device(**settings)
    except OSError as error:
        raise pytest.fail.Exception(f"{name}: {error}", pytrace=False) from None
    device.name = name
    return device


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
