# SPDX-License-Identifier: GPL-2.0-or-later
"""A failed test's report: its devices' records, what happened on its mounts, no frames of ours."""

from __future__ import annotations

import re

import pytest

mounts = pytest.mark.mount


def sections(result: pytest.RunResult) -> list[tuple[str, list[str]]]:
    """Return our sections, titles and lines, in their order."""
    found: list[tuple[str, list[str]]] = []
    lines: list[str] = []
    for line in result.outlines:
        if title := re.fullmatch(r"-+ ((?:Records of|What happened on) .*) -+", line):
            lines = []
            found.append((title[1], lines))
        elif re.match("___|===|---", line):
            lines = []
        else:
            lines.append(line)
    return found


def without_times(lines: list[str]) -> list[str]:
    """Return the operations and processes of a report, without times and process ids."""
    found = [re.fullmatch(r" *[0-9.]{5,} s  (.*?)  +(.*?)(, process [0-9]+)?", x) for x in lines]
    return [f"{line[1]}: {line[2]}" for line in found if line]


@mounts
def test_a_device_has_its_records_those_that_were_not_taken_too(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import pytest
        from fusenotify.testing import assert_events

        def test_it(fusenotify_mount, fusenotify_device):
            path = fusenotify_mount.path
            (path / "docs").mkdir()
            fusenotify_device.watch(".", "CREATE|MOVE|ONLYDIR")
            fusenotify_device.watch("docs", tree=True)
            (path / "a").touch()
            (path / "a").rename(path / "b")
            assert_events(fusenotify_device, ["CREATE a"], at_least=True)
            with fusenotify_mount.device(max_queued_events=1) as hasty:
                hasty.watch(".", "DELETE")
                (path / "b").unlink()
                (path / "docs").rmdir()
                assert 0

        @pytest.fixture
        def later(fusenotify_device):
            yield
            assert_events(fusenotify_device, ["CREATE a"])
            print("the finalizer saw it")

        def test_that_fails_before_its_finalizer_looks(later, fusenotify_mount, fusenotify_device):
            fusenotify_device.watch(".", "CREATE")
            (fusenotify_mount.path / "a").touch()
            assert 0

        def test_that_forgot_to_watch(fusenotify_device):
            assert 0

        def test_that_passes(fusenotify_device):
            fusenotify_device.watch()
        """
    )
    result = users.runpytest("-s")
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines("*the finalizer saw it*")
    assert sections(result) == [
        (
            "Records of fusenotify_device",
            [
                "watching . (MOVED_FROM|MOVED_TO|CREATE|ONLYDIR), docs and all below (all events)",
                ".: CREATE a",
                ".: MOVED_FROM a #1",
                ".: MOVED_TO b #1",
                "not taken by the test:",
                "docs: DELETE_SELF",
                "docs: IGNORED",
            ],
        ),
        (
            "Records of a device of fusenotify_mount",
            ["watching . (DELETE)", "not taken by the test:", "DELETE b", "Q_OVERFLOW"],
        ),
        (
            "Records of fusenotify_device",
            ["watching . (CREATE)", "not taken by the test:", "CREATE a"],
        ),
        ("Records of fusenotify_device", ["It watched nothing: watch() was not called."]),
        ("What happened on fusenotify_mount", ["nothing"]),
    ]


@mounts
def test_without_a_device_the_report_has_what_happened(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import subprocess
        import pytest
        from fusenotify.client import Inotify

        def test_it(fusenotify_mount):
            with Inotify() as watcher:
                watcher.add_watch(fusenotify_mount.path, "CREATE")
                (fusenotify_mount.path / "a").write_text("x")
                steps = "mkdir d; mv a d/b; cat d/b"
                subprocess.run(["sh", "-c", steps], cwd=fusenotify_mount.path)
                assert 0

        @pytest.mark.parametrize("turn", [1, 2])
        def test_on_a_shared_mount_it_is_this_tests_alone(turn, fusenotify_session_mount):
            fusenotify_session_mount.fresh_directory()
            assert 0

        def test_with_no_mount_of_ours():
            assert 0

        def test_too_much(fusenotify_mount):
            for number in range(1500):
                (fusenotify_mount.path / str(number)).mkdir()
            assert 0
        """
    )
    result = users.runpytest("--show-capture=all")
    result.assert_outcomes(failed=5)
    found = sections(result)
    assert [title.rpartition(" ")[2] for title, _ in found] == [
        *("fusenotify_mount", "fusenotify_session_mount", "fusenotify_session_mount"),
        "fusenotify_mount",
    ]
    assert re.fullmatch(r"\(paths from /.*/mnt, seconds since the test began\)", found[0][1][0])
    assert without_times(found[0][1]) == [
        *("CREATE a: this process", "OPEN a: this process", "MODIFY a: this process"),
        *("CLOSE_WRITE a: this process", "CREATE|ISDIR d: mkdir", "MOVED_TO a -> d/b: mv"),
        *("OPEN d/b: cat", "ACCESS d/b: cat", "CLOSE_NOWRITE d/b: cat"),
    ]
    assert without_times(found[1][1]) == ["CREATE|ISDIR fresh-1: this process"]
    assert without_times(found[2][1]) == ["CREATE|ISDIR fresh-2: this process"]
    lines = found[3][1]
    assert lines[1] == "... 1400 earlier ones"
    assert len(lines) == 102
    assert without_times(lines)[-1] == "CREATE|ISDIR 1499: this process"


@mounts
def test_so_it_is_where_others_watch_beside_a_device(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import subprocess
        from fusenotify.client import Inotify
        import pytest

        @pytest.fixture
        def client(fusenotify_mount):
            with Inotify() as inotify:
                inotify.add_watch(fusenotify_mount.path, "CREATE")
                yield

        @pytest.fixture
        def native(fusenotify_mount):
            command = ["inotifywait", "-m", fusenotify_mount.path]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
                while "established" not in program.stderr.readline():
                    pass
                yield
                program.kill()

        @pytest.fixture
        def nobody():
            pass

        @pytest.mark.parametrize("watcher", ["client", "native", "nobody"])
        def test_it(watcher, request, fusenotify_mount, fusenotify_device):
            request.getfixturevalue(watcher)
            fusenotify_device.watch(".", "DELETE")
            (fusenotify_mount.path / "a").mkdir()
            assert 0
        """
    )
    records, happened = "Records of fusenotify_device", "What happened on fusenotify_mount"
    found = sections(users.runpytest())
    assert [title for title, _ in found] == [records, happened, records, happened, records]
    assert without_times(found[1][1]) == ["CREATE|ISDIR a: this process"]


@mounts
def test_errors_of_setup_and_teardown_have_it_too(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import pytest

        @pytest.fixture
        def prepared(fusenotify_mount, fusenotify_device):
            (fusenotify_mount.path / "a").mkdir()
            fusenotify_device.watch("b")

        def test_setup(prepared):
            pass

        @pytest.fixture
        def clean(fusenotify_mount):
            yield
            assert not list(fusenotify_mount.path.iterdir())

        def test_teardown(clean, fusenotify_mount):
            (fusenotify_mount.path / "a").mkdir()

        @pytest.mark.fusenotify(max_user_instances=0)
        def test_with_nothing_to_say(fusenotify_device):
            pass
        """
    )
    result = users.runpytest()
    result.assert_outcomes(errors=3, passed=1)
    assert [(title, without_times(lines)[:1]) for title, lines in sections(result)] == [
        ("What happened on fusenotify_mount", ["CREATE|ISDIR a: this process"]),
    ] * 2


@mounts
def test_of_a_test_that_passed_it_is_told_where_that_is_asked_for(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        def test_it(fusenotify_device):
            fusenotify_device.watch(".", "CREATE")
        """
    )
    users.makeconftest(
        """
        def pytest_runtest_logreport(report):
            print(report.when, "has", len(report.sections))
        """
    )
    result = users.runpytest("-s")
    assert sections(result) == []
    result.stdout.fnmatch_lines("*call has 0")
    assert sections(users.runpytest("-rA")) == [
        ("Records of fusenotify_device", ["watching . (CREATE)", "no record"])
    ]


@mounts
def test_a_report_comes_though_the_daemon_is_stopped_or_gone(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import os
        import signal
        import pytest
        from fusenotify.testing import mounts, report

        @pytest.fixture(autouse=True)
        def not_so_long(monkeypatch):
            monkeypatch.setattr(mounts, "REPORT_SECONDS", 0.2)
            monkeypatch.setattr(report, "REPORT_SECONDS", 0.2)

        @pytest.fixture
        def goes_on(fusenotify_mount):
            yield
            os.kill(fusenotify_mount.pid, signal.SIGCONT)

        def test_stopped(fusenotify_mount, goes_on):
            device = fusenotify_mount.device()
            device.watch()
            os.kill(fusenotify_mount.pid, signal.SIGSTOP)
            assert 0

        def test_gone(fusenotify_mount):
            os.kill(fusenotify_mount.pid, signal.SIGKILL)
            os.waitid(os.P_PID, fusenotify_mount.pid, os.WEXITED | os.WNOWAIT)
            assert 0
        """
    )
    result = users.runpytest()
    result.assert_outcomes(failed=2)
    (_, stopped), (_, gone) = sections(result)
    assert stopped[1].startswith("What it has queued is not known: [Errno 110]")
    assert gone[0].startswith("That is not known: [Errno ")


def test_our_frames_are_hidden(users: pytest.Pytester) -> None:
    lines = {
        "device.watch('none')": "FileNotFoundError: *",
        "device.watch('.', 'CRAETE')": "ValueError: *did you mean CREATE?",
        "assert_events(device, ['create a'])": "ValueError: 'create a' is not *record*",
        "assert_events(device, ['CREATE a'])": "AssertionError: not the expected records*",
    }
    users.makepyfile(
        """
        from fusenotify.testing import assert_events
        """
        + "\n".join(
            f"""
        def test_{number}(fusenotify_engine):
            device = fusenotify_engine.device()
            {line}
        """
            for number, line in enumerate(lines)
        )
    )
    result = users.runpytest()
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [text for line, said in lines.items() for text in (f">       {line}", f"E       {said}")]
    )
    result.stdout.no_fnmatch_line("*/fusenotify/*.py*")
    users.runpytest("--full-trace").stdout.fnmatch_lines("*/fusenotify/testing/*")


@mounts
def test_the_clients_frames_are_hidden_where_a_device_of_ours_calls_it(
    users: pytest.Pytester,
) -> None:
    users.makepyfile(
        """
        def test_ours(fusenotify_device):
            try:
                fusenotify_device.watch("none")
            except OSError as error:
                raise ExceptionGroup("several", [error])

        def test_the_clients(fusenotify_mount):
            with fusenotify_mount.client() as client:
                client.init().add_watch("none", "CREATE")
        """
    )
    ours = users.runpytest("-k", "test_ours").stdout
    ours.fnmatch_lines("*FileNotFoundError: *'none'")
    ours.no_fnmatch_line("*/fusenotify/*.py*")
    users.runpytest("-k", "clients").stdout.fnmatch_lines("*/fusenotify/client/*.py*")


@mounts
def test_messages_name_the_marker(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import pytest
        from fusenotify.testing import assert_events

        def check(call, message):
            with pytest.raises((OSError, AssertionError)) as refused:
                call()
            assert message in str(refused.value)

        @pytest.mark.fusenotify(max_user_instances=1, max_user_watches=1)
        def test_it(fusenotify_mount, fusenotify_session_mount):
            check(
                lambda: fusenotify_mount.faults,
                "fusenotify_mount allows no faults: say @pytest.mark.fusenotify(faults=True), or "
                "temporary_mount(..., faults=True)",
            )
            check(
                lambda: fusenotify_session_mount.faults,
                "fusenotify_session_mount allows no faults: tests share it; use fusenotify_mount "
                "with @pytest.mark.fusenotify(faults=True)",
            )
            device = fusenotify_mount.device()
            check(
                fusenotify_mount.device,
                "max_user_instances = 1 already; @pytest.mark.fusenotify(max_user_instances=...) "
                "sets it for fusenotify_mount",
            )
            device.watch()
            (fusenotify_mount.path / "d").mkdir()
            check(
                lambda: device.watch("d"),
                "max_user_watches = 1 already; @pytest.mark.fusenotify(max_user_watches=...) sets "
                "it for fusenotify_mount",
            )
            check(
                lambda: assert_events(device, ["MOVED_TO a -> b"]),
                "OLD -> NAME is what a detailed device says, "
                "@pytest.mark.fusenotify(detailed=True) or device(detailed=True); for others a "
                "rename is MOVED_FROM and MOVED_TO",
            )
        """
    )
    users.runpytest().assert_outcomes(passed=1)


def test_an_engine_refuses_settings_for_mounts(users: pytest.Pytester) -> None:
    users.makepyfile(
        """
        import pytest

        @pytest.mark.fusenotify(faults=True)
        def test_it(fusenotify_engine):
            assert 0
        """
    )
    result = users.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("@pytest.mark.fusenotify: faults is for mounts; an engine has none")


def test_of_a_device_that_tests_share_each_report_has_its_own_records(
    users: pytest.Pytester,
) -> None:
    users.makepyfile(
        """
        import pytest
        from fusenotify.testing import EngineTree

        tree = EngineTree()

        @pytest.fixture(scope="module")
        def shared():
            device = tree.device()
            device.watch(".", "CREATE")
            return device

        @pytest.mark.parametrize("name", ["a", "b"])
        def test_with_it(name, shared):
            tree.create(name)
            shared.take()
            tree.create(name * 2)
            assert 0

        def test_without_it():
            assert 0
        """
    )
    result = users.runpytest()
    result.assert_outcomes(failed=3)
    watching = "watching . (CREATE)"
    assert sections(result) == [
        ("Records of shared", [watching, "CREATE a", "not taken by the test:", "CREATE aa"]),
        (
            "Records of shared",
            [watching, "CREATE aa", "CREATE b", "not taken by the test:", "CREATE bb"],
        ),
    ]
