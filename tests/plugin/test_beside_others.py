# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin beside pytest-xdist, pytest-asyncio, pytest-trio and anyio's plugin."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from tests.cli.command import ended, until

pytestmark = pytest.mark.mount

WORKERS = """
    import json
    import os
    import signal
    import time
    from pathlib import Path

    import pytest
    from fusenotify.testing import assert_events

    HERE = Path(__file__).parent

    def note(name, *mounts):
        said = [(mount.pid, mount.socket, str(mount.path)) for mount in mounts]
        (HERE / f"{name}.part").write_text(json.dumps([os.getpid(), *said]))
        (HERE / f"{name}.part").rename(HERE / f"{name}.json")

    def wait_for(name):
        while not (HERE / f"{name}.json").exists():
            time.sleep(0.01)
"""


# A worker, and what its test said of each mount: the daemon, its socket, its path.
Said = tuple[int, *tuple[tuple[int, str, str], ...]]


def noted(users: pytest.Pytester, *names: str) -> list[Said]:
    """Return what the tests noted."""
    files = [users.path / f"{name}.json" for name in names]
    until(lambda: all(file.exists() for file in files), "noted", 40)
    return [_said(*json.loads(file.read_text())) for file in files]


def _said(worker: int, *mounts: Iterable[Any]) -> Said:
    return (worker, *((pid, socket, path) for pid, socket, path in mounts))


def check_nothing_is_left(said: list[Said]) -> None:
    mounts = [mount for _, *of_worker in said for mount in of_worker]
    assert all(ended(pid) for pid, _, _ in mounts)
    until(lambda: not any(os.path.exists(socket) for _, socket, _ in mounts), "without a socket")
    until(lambda: not any(os.path.ismount(path) for _, _, path in mounts), "unmounted")


def run(users: pytest.Pytester, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", f"--basetemp={users.path}/base", *arguments]


def test_workers_share_no_mount_and_no_socket_and_a_crash_leaves_none(
    users: pytest.Pytester,
) -> None:
    # Each waits for the other, so that they run at the same time.
    meets = """
    def test_it(fusenotify_mount, fusenotify_session_mount, fusenotify_device):
        fusenotify_device.watch(".", "CREATE")
        note("{0}", fusenotify_mount, fusenotify_session_mount)
        wait_for("{1}")
        (fusenotify_mount.path / "{0}").touch()
        fusenotify_session_mount.fresh_directory()
        assert_events(fusenotify_device, ["CREATE {0}"])
    """
    users.makepyfile(
        test_one=WORKERS
        + meets.format("one", "two")
        + """
    def test_fails(fusenotify_mount):
        (fusenotify_mount.path / "a").touch()
        assert 0
    """,
        test_two=WORKERS
        + meets.format("two", "one")
        + """
    def test_crashes(fusenotify_mount, fusenotify_session_mount):
        note("crashed", fusenotify_mount, fusenotify_session_mount)
        os.kill(os.getpid(), signal.SIGKILL)
    """,
    )
    result = users.run(*run(users, "-n2", "--dist=loadfile", "--max-worker-restart=0"), timeout=60)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines_random(
        ["*What happened on fusenotify_mount*", "*CREATE a  *", "worker 'gw*' crashed*"]
    )
    said = noted(users, "one", "two", "crashed")
    (_, *of_one), (_, *of_two), (_, *of_crashed) = said
    assert not set(of_one) & set(of_two)
    assert of_crashed[0] not in of_two, "each test has its own"
    assert of_crashed[1] == of_two[1], "a worker has one for its session"
    check_nothing_is_left(said)


def test_ctrl_c_leaves_nothing_of_the_workers(users: pytest.Pytester) -> None:
    waits = """
    def test_it(fusenotify_mount, fusenotify_session_mount):
        file = open(fusenotify_session_mount.path / "a", "w")
        note("{}", fusenotify_mount, fusenotify_session_mount)
        time.sleep(60)
    """
    users.makepyfile(test_one=WORKERS + waits.format("one"), test_two=WORKERS + waits.format("two"))
    with subprocess.Popen(
        run(users, "-n2", "--dist=loadfile"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as pytest_run:
        try:
            said = noted(users, "one", "two")
            os.killpg(pytest_run.pid, signal.SIGINT)  # as a terminal does
            pytest_run.communicate(timeout=30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pytest_run.pid, signal.SIGKILL)
    assert pytest_run.returncode == pytest.ExitCode.INTERRUPTED
    check_nothing_is_left(said)


ASYNC = """
    import pytest
    from fusenotify.client import aio
    from fusenotify.testing import assert_events

    {marker}
    @pytest.mark.parametrize("passes", [True, False])
    async def test_it(passes, fusenotify_mount, fusenotify_session_device, fusenotify_device):
        fusenotify_device.watch(".", "CREATE")
        async with aio.Inotify() as inotify:
            await inotify.add_watch(fusenotify_mount.path, "CREATE")
            (fusenotify_mount.path / "a").touch()
            assert [event.name async for event in inotify.events(timeout=0.3)] == ["a"]
        assert_events(fusenotify_device, ["CREATE a" if passes else "CREATE b"])
"""


@pytest.mark.parametrize(
    ("marker", "options", "runs"),
    [
        pytest.param(
            "@pytest.mark.asyncio",
            ["-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function"],
            1,
            id="pytest-asyncio",
        ),
        pytest.param("@pytest.mark.trio", [], 1, id="pytest-trio"),
        pytest.param("@pytest.mark.anyio", [], 2, id="anyio, which runs each twice"),
    ],
)
def test_async_tests_use_the_same_fixtures(
    users: pytest.Pytester, marker: str, options: list[str], runs: int
) -> None:
    users.makepyfile(ASYNC.format(marker=marker))
    result = users.runpytest(*options)
    result.assert_outcomes(passed=runs, failed=runs)
    result.stdout.fnmatch_lines(
        ["*- CREATE b", "*+ CREATE a", "*Records of fusenotify_device*", "watching . (CREATE)"]
    )
    result.stdout.no_fnmatch_line("*/fusenotify/testing/*")
