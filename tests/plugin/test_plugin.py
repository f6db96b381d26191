# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin in runs of pytest of their own: fixtures, the marker, the end of mounts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fusenotify import mountinfo
from tests.cli.command import ended, until
from tests.conftest import REPOSITORY

mounts = pytest.mark.mount


@mounts
def test_a_test_has_a_mount_and_a_device_of_its_own(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import os
        from fusenotify.testing import assert_events

        mounts = set()

        def test_one(fusenotify_mount, fusenotify_device):
            mounts.add((fusenotify_mount.path, fusenotify_mount.pid))
            fusenotify_device.watch()
            (fusenotify_mount.path / "a").write_text("x")
            assert (fusenotify_mount.source / "a").read_text() == "x"
            assert_events(fusenotify_device, [
                "CREATE a", "OPEN a", "MODIFY a", "CLOSE_WRITE a"
            ])
            assert_events(fusenotify_device, [])

        def test_two(fusenotify_device, fusenotify_mount):
            mounts.add((fusenotify_mount.path, fusenotify_mount.pid))
            assert list(fusenotify_mount.path.iterdir()) == []
            (fusenotify_mount.path / "d").mkdir()
            with fusenotify_mount.device() as other:
                fusenotify_device.watch(fusenotify_mount.path / "d", "CREATE|ONESHOT")
                other.watch("d", "CREATE")
                (fusenotify_mount.path / "d" / "a").touch()
                assert_events(fusenotify_device, ["d: CREATE a", "d: IGNORED"])
                assert_events(other, ["d: CREATE a"])

        def test_a_mount_is_a_path(fusenotify_mount):
            (fusenotify_mount / "d" ).mkdir()
            assert os.listdir(fusenotify_mount) == ["d"]

        def test_they_were_two():
            assert len(mounts) == 2
        """
    )
    users.runpytest().assert_outcomes(passed=4)


@mounts
def test_tests_may_share_a_mount(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import pytest
        from fusenotify.testing import assert_events

        seen = set()

        @pytest.mark.parametrize("turn", [1, 2])
        def test_it(turn, fusenotify_session_mount, fusenotify_session_device):
            seen.add((fusenotify_session_mount.pid, fusenotify_session_mount.path))
            top = fusenotify_session_mount.fresh_directory()
            assert list(top.iterdir()) == []
            fusenotify_session_device.watch(top, "CREATE")
            (top / "a").touch()
            assert_events(fusenotify_session_device, ["CREATE a"])
            assert len(seen) == 1

        @pytest.mark.fusenotify(max_queued_events=1, semantics="linux-2.6.18")
        def test_with_a_queue_of_one(fusenotify_session_mount, fusenotify_session_device):
            top = fusenotify_session_mount.fresh_directory()
            fusenotify_session_device.watch(top, "CREATE")
            for name in "abc":
                (top / name).touch()
            assert_events(fusenotify_session_device, ["CREATE a", "Q_OVERFLOW"])
        """
    )
    users.runpytest().assert_outcomes(passed=3)


LIMITED = """
    import os
    import pytest
    from fusenotify.testing import assert_events

    pytestmark = pytest.mark.fusenotify(semantics="linux-2.6.18", max_queued_events=9)

    @pytest.mark.fusenotify(max_queued_events=1, max_user_watches=2, max_user_instances=3)
    def test_limits({fixture}):
        for _ in range({devices}):
            device = {fixture}.device()
        with pytest.raises(OSError, match="max_user_instances = 3"):
            {fixture}.device()
        {prepare}
        device.watch(".", "CREATE")
        device.watch("s")
        with pytest.raises(OSError, match="max_user_watches = 2"):
            device.watch("t")
        {create}
        # One event, and under these semantics an IN_ONESHOT ends without IN_IGNORED.
        assert_events(device, [".: CREATE a", "Q_OVERFLOW"])
        device.watch(".", "CREATE|ONESHOT")
        {create_more}
        assert_events(device, ["CREATE d"])
"""


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            LIMITED.format(
                fixture="fusenotify_mount",
                devices=3,
                prepare="[(fusenotify_mount.path / name).mkdir() for name in 'st']",
                create="[(fusenotify_mount.path / name).touch() for name in 'abc']",
                create_more="(fusenotify_mount.path / 'd').touch()",
            ),
            marks=mounts,
            id="mount",
        ),
        pytest.param(
            LIMITED.format(
                fixture="fusenotify_engine",
                devices=3,
                prepare="fusenotify_engine.prepare('s/', 't/')",
                create="[fusenotify_engine.create(name) for name in 'abc']",
                create_more="fusenotify_engine.create('d')",
            ),
            id="engine",
        ),
    ],
)
def test_the_marker_sets_limits_and_semantics(users: pytest.Pytester, source: str) -> None:
    users.makepyfile(source)
    users.runpytest().assert_outcomes(passed=1)


TREE = """
    import pytest
    from fusenotify.testing import assert_events

    @pytest.mark.fusenotify(detailed=True)
    def test_one_event_for_a_rename({mount}, {device}):
        (top := {top}).joinpath("a/b").mkdir(parents=True)
        {device}.watch(top, "CREATE|MOVE|MOVE_SELF", tree=True, exclude=["*.tmp"])
        (top / "a/b/c").touch()
        (top / "a/b/c.tmp").touch()
        (top / "a/b/c").rename(top / "c")
        (top / "c").rename(top / "c.tmp")
        (top / "a").rename(top / "d")
        assert_events({device}, [
            "CREATE a/b/c",
            "MOVED_TO a/b/c -> c",
            "MOVED_FROM c",
            "MOVED_TO|ISDIR a -> d",
            "MOVE_SELF d/",
        ])

    def test_two_records_for_a_rename({mount}, {device}):
        (top := {top}).joinpath("a/b").mkdir(parents=True)
        {device}.watch(top, "MOVE|MOVE_SELF", tree=True)
        (top / "a/b").rename(top / "a/c")
        assert_events(
            {device},
            ["MOVED_FROM|ISDIR a/b #1", "MOVED_TO|ISDIR a/c #1", "MOVE_SELF a/c/"],
        )
"""


@mounts
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            TREE.format(
                mount="fusenotify_mount", device="fusenotify_device", top="fusenotify_mount.path"
            ),
            id="a mount",
        ),
        pytest.param(
            TREE.format(
                mount="fusenotify_session_mount",
                device="fusenotify_session_device",
                top="fusenotify_session_mount.fresh_directory()",
            ),
            id="a shared mount",
        ),
    ],
)
def test_trees_and_the_marker_that_makes_a_device_detailed(
    users: pytest.Pytester, source: str
) -> None:
    users.makepyfile(source)
    users.runpytest().assert_outcomes(passed=2)


@mounts
def test_a_watch_may_ignore_the_tests_own_events(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import subprocess
        from fusenotify.testing import assert_events

        def test_it(fusenotify_mount, fusenotify_device):
            fusenotify_device.watch(".", "CREATE", ignore_self=True)
            (fusenotify_mount.path / "a").touch()
            subprocess.run(["touch", fusenotify_mount.path / "b"], check=True)
            assert_events(fusenotify_device, ["CREATE b"])
        """
    )
    users.runpytest().assert_outcomes(passed=1)


@mounts
def test_the_marker_passes_fuse_options_on(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.fusenotify(options=["ro"])
        def test_it(fusenotify_mount):
            with pytest.raises(OSError, match="Read-only"):
                (fusenotify_mount.path / "a").touch()
        """
    )
    users.runpytest().assert_outcomes(passed=1)


@mounts
def test_the_marker_may_ask_for_every_read(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import os
        import pytest
        from fusenotify.testing import assert_events

        @pytest.mark.fusenotify(access="exact")
        def test_it(fusenotify_mount, fusenotify_device):
            (fusenotify_mount.path / "a").write_text("x")
            fusenotify_device.watch(".", "ACCESS|ATTRIB")
            file = os.open(fusenotify_mount.path / "a", os.O_RDONLY)
            for _ in range(2):
                os.pread(file, 1, 0)
                os.fchmod(file, 0o600)
            os.close(file)
            assert_events(fusenotify_device, ["ACCESS a", "ATTRIB a"] * 2)
        """
    )
    users.runpytest().assert_outcomes(passed=1)


@mounts
def test_the_marker_may_ask_for_changes_behind_the_mount(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import subprocess
        import pytest
        from fusenotify.testing import assert_events

        @pytest.mark.fusenotify(behind="watched")
        def test_it(fusenotify_mount, fusenotify_device):
            fusenotify_device.watch(".", "CREATE|DELETE")
            subprocess.run(["touch", "a"], cwd=fusenotify_mount.source, check=True)
            (fusenotify_mount / "a").unlink()
            assert_events(fusenotify_device, ["CREATE a", "DELETE a"])
        """
    )
    users.runpytest().assert_outcomes(passed=1)


@mounts
def test_other_users_reach_a_mount_that_is_for_them(users: pytest.Pytester) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    users.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.fusenotify(options=["allow_other"])
        def test_it(fusenotify_mount):
            fusenotify_mount.path.chmod(0o777)
            if (child := os.fork()) == 0:
                os.setresuid(65534, 65534, 65534)
                os.close(os.open(fusenotify_mount.path / "a", os.O_CREAT))
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert (fusenotify_mount.source / "a").stat().st_uid == 65534
            print("it was in", fusenotify_mount.path.parent)
        """
    )
    result = users.runpytest("-s")
    result.assert_outcomes(passed=1)
    (line,) = [line for line in result.outlines if "it was in" in line]
    assert not os.path.exists(line.split()[-1])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        pytest.param(
            "max_queued=4",
            "unknown keyword 'max_queued': did you mean max_queued_events? There are "
            "max_queued_events, max_user_watches, max_user_trees, max_user_instances, semantics, "
            "access, behind, faults, detailed, options",
            id="keyword",
        ),
        pytest.param(
            "max_queued_events=-1",
            "max_queued_events=-1: not a whole number of 0 or more",
            id="negative",
        ),
        pytest.param(
            "max_user_watches=True",
            "max_user_watches=True: not a whole number of 0 or more",
            id="no number",
        ),
        pytest.param(
            "max_user_instances='4'",
            "max_user_instances='4': not a whole number of 0 or more",
            id="text",
        ),
        pytest.param(
            "semantics='linux-5'",
            "semantics='linux-5': there are linux-2.6.18 and linux-6",
            id="semantics",
        ),
        pytest.param(
            "semantics=[]", "semantics=[]: there are linux-2.6.18 and linux-6", id="no name"
        ),
        pytest.param("faults=1", "faults=1: not True or False", id="faults"),
        pytest.param("detailed=0", "detailed=0: not True or False", id="detailed"),
        pytest.param("access='all'", "access='all': there are open and exact", id="access"),
        pytest.param(
            "behind=True", "behind=True: there are off, watched and all", id="behind the mount"
        ),
        pytest.param(
            "options='ro'", "options='ro': not a list of FUSE options, each a str", id="options"
        ),
        pytest.param(
            "options=['ro', 'frob']",
            "options=['ro', 'frob']: unknown FUSE option 'frob': there are ",
            id="an option",
        ),
        pytest.param("4", "4 has no keyword: write keyword=value", id="no keyword"),
    ],
)
def test_the_marker_refuses(users: pytest.Pytester, marker: str, message: str) -> None:
    users.makepyfile(
        f"""
        import pytest

        @pytest.mark.fusenotify({marker})
        def test_it():
            assert False
        """
    )
    result = users.runpytest("-rN")  # the summary repeats all of it where CI is set
    result.assert_outcomes(errors=1)
    complaint = f"@pytest.mark.fusenotify: {message}"
    # Once: nothing about exceptions behind it.
    assert len([line for line in result.outlines if message in line]) == 1
    assert [line for line in result.outlines if line.startswith(complaint)]


@mounts
def test_a_shared_mount_refuses_limits_of_one_test(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import pytest

        @pytest.mark.fusenotify(max_user_watches=4, max_queued_events=4)
        def test_it(fusenotify_session_device):
            assert False
        """
    )
    result = users.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        "@pytest.mark.fusenotify: max_user_watches cannot be set on a mount that tests share: "
        "use fusenotify_mount, which belongs to the test alone"
    )


def test_the_marker_and_the_fixtures_are_listed(users: pytest.Pytester) -> None:
    users.runpytest("--markers").stdout.fnmatch_lines(
        "@pytest.mark.fusenotify(max_queued_events=N, *"
    )
    fixtures = users.runpytest("--fixtures").stdout
    for name in ("mount", "device", "session_mount", "session_device", "engine"):
        fixtures.fnmatch_lines(f"fusenotify_{name}*-- *pytest_plugin.py:*")


def test_a_failure_shows_the_test_and_the_difference(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        from fusenotify.testing import assert_events

        def test_it(fusenotify_engine):
            device = fusenotify_engine.device()
            device.watch()
            fusenotify_engine.create("a")
            assert_events(device, ["CREATE b"])
        """
    )
    result = users.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       assert_events(device, ["CREATE b"])',
            "E       AssertionError: not the expected records (- expected, + got):",
            "E         - CREATE b",
            "E         + CREATE a",
            "E       1 expected, 1 got",
        ],
    )
    assert "watching.py" not in result.stdout.str()


@mounts
def test_a_path_outside_of_the_mount_is_refused(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import pytest

        def test_it(fusenotify_mount, fusenotify_device):
            with pytest.raises(ValueError, match="'/etc' is not in the mount at '/.*/mnt': watch"):
                fusenotify_device.watch("/etc")
        """
    )
    users.runpytest().assert_outcomes(passed=1)


def our_mounts(below: Path) -> list[str]:
    return [
        os.fsdecode(mount.mountpoint)
        for mount in mountinfo.mounts()
        if mount.fstype == mountinfo.FSTYPE
        and mount.mountpoint.startswith(os.fsencode(below) + b"/")
    ]


@mounts
def test_nothing_stays_mounted_after_failures(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import os
        import signal

        def test_fails_with_a_file_open(fusenotify_mount, fusenotify_session_mount):
            for mount in (fusenotify_mount, fusenotify_session_mount):
                os.open(mount.path / "a", os.O_CREAT)
                os.chdir(mount.path)
            assert False

        def test_fails_without_its_daemon(fusenotify_mount, fusenotify_device):
            os.kill(fusenotify_mount.pid, signal.SIGKILL)
            fusenotify_device.take()
        """
    )
    # In a process of its own, which is left in the mount.
    result = users.runpytest_subprocess("-p", "no:cacheprovider", timeout=60)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines("*ConnectionLost*")
    assert our_mounts(users.path) == []


@mounts
def test_a_daemon_that_fails_later_is_an_error(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import os
        import signal

        def test_it(fusenotify_mount):
            os.kill(fusenotify_mount.pid, signal.SIGABRT)
        """
    )
    result = users.runpytest()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines("fusenotify: the daemon ended with status -6")
    assert our_mounts(users.path) == []


@mounts
@pytest.mark.parametrize("fixture", ["fusenotify_mount", "fusenotify_session_mount"])
@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param(signal.SIGINT, pytest.ExitCode.INTERRUPTED, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, -signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, id="SIGKILL"),
    ],
)
def test_nothing_stays_mounted_after(
    users: pytest.Pytester, end: signal.Signals, status: int, fixture: str
) -> None:
    users.makepyfile(
        f"""
        import signal

        def test_it({fixture}):
            {fixture}.device().watch()
            file = open({fixture}.path / "a", "w")
            print("daemon", {fixture}.pid, flush=True)
            signal.pause()
        """
    )
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", f"--basetemp={users.path}/base"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        try:
            assert run.stdout is not None
            daemon = next(int(line.split()[-1]) for line in run.stdout if "daemon" in line)
            assert len(our_mounts(users.path)) == 1
            run.send_signal(end)
            assert run.wait(30) == status
        finally:
            run.kill()
    assert ended(daemon)
    until(lambda: not our_mounts(users.path), "unmounted")


SKIPPED = """
    import pytest

    def test_mount(fusenotify_mount):
        assert False

    def test_session_mount(fusenotify_session_device):
        assert False

    def test_engine(fusenotify_engine):
        pass
"""


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        pytest.param(
            [
                *("unshare", "--mount", "sh", "-c"),
                "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && "
                'mknod -m 666 /dev/urandom c 1 9 && exec "$@"',
                "sh",
            ],
            "/dev/fuse does not exist: load the module (modprobe fuse), or give it to the "
            "container (--device /dev/fuse --cap-add SYS_ADMIN)",
            id="no /dev/fuse",
        ),
        pytest.param(
            ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
            "root needs CAP_SYS_ADMIN here (to a container: --cap-add SYS_ADMIN)",
            id="no CAP_SYS_ADMIN",
            marks=mounts,
        ),
    ],
)
def test_without_fuse_tests_are_skipped_aloud(
    users: pytest.Pytester, prefix: list[str], reason: str
) -> None:
    if os.geteuid():
        pytest.skip("only root can hide devices and give up capabilities")
    users.makepyfile(SKIPPED)
    check_skipped(run_pytest(users, *prefix), reason)


@mounts
def test_without_pyfuse3_tests_are_skipped_aloud(users: pytest.Pytester) -> None:
    users.makepyfile(SKIPPED)
    broken = users.mkdir("broken") / "pyfuse3.py"
    broken.write_text("raise ImportError('libfuse3.so.4: cannot open shared object file')\n")
    result = run_pytest(users, "env", f"PYTHONPATH={broken.parent}:{REPOSITORY}")
    check_skipped(
        result,
        "a mount needs pyfuse3, which cannot be imported (libfuse3.so.4: cannot open shared "
        "object file): pip install 'fusenotify[mount]', which compiles pyfuse3; first install ",
    )


def run_pytest(users: pytest.Pytester, *prefix: str) -> pytest.RunResult:
    command = [*prefix, sys.executable, "-m", "pytest", "-q"]
    return users.run(*command, f"--basetemp={users.path}/base", timeout=60)


def check_skipped(result: pytest.RunResult, reason: str) -> None:
    result.assert_outcomes(passed=1, skipped=2)
    expected = f"fusenotify: 2 tests that need a mount were skipped: {reason}"
    assert any(line.startswith(expected) for line in result.outlines)


def test_an_installed_project_needs_no_option(users: pytest.Pytester) -> None:
    site = users.mkdir("site")
    shutil.copytree(
        REPOSITORY / "fusenotify",
        site / "fusenotify",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (points,) = project["entry-points"].items()
    metadata = site / "fusenotify-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fusenotify\nVersion: 0\n")
    (metadata / "RECORD").write_text("fusenotify/pytest_plugin.py,,\nfusenotify/__init__.py,,\n")
    (metadata / "entry_points.txt").write_text(
        f"[{points[0]}]\n" + "\n".join(f"{name} = {module}" for name, module in points[1].items())
    )
    users.makepyfile(
        """
        def test_it(fusenotify_engine):
            from fusenotify.testing import assert_events

            device = fusenotify_engine.device()
            device.watch()
            assert_events(device, [])
        """
    )
    result = users.run(
        "env", "PYTEST_PLUGINS=", f"PYTHONPATH={site}", sys.executable, "-m", "pytest", timeout=60
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("plugins:*fusenotify-0*")
