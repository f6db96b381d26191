# SPDX-License-Identifier: GPL-2.0-or-later
"""A static C program gets the same answers natively and under ``run``, call for call."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fusenotify import mounted
from fusenotify.bits import IN_IGNORED, IN_ISDIR, IN_UNMOUNT
from fusenotify.testing import TemporaryMount, temporary_mount
from tests.cli.command import FUSENOTIFY
from tests.conftest import User
from tests.run_under.programs import ALIKE, AS_ROOT, answers, compiled, under

pytestmark = pytest.mark.mount

MANY_INSTANCES = """
import sys
from inotify_simple import INotify, flags
made = [INotify() for _ in range(150)]
print(sum(one.add_watch(sys.argv[1], flags.CREATE) for one in made))
"""

Compared = tuple[dict[str, str], dict[str, str]]


def natively(program: Path, directory: Path, *names: str) -> dict[str, str]:
    command = [str(program), str(directory), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return answers(done.stdout)


@pytest.fixture(scope="module")
def compared(scenarios: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """What the scenarios print natively, and under run: all in one run, for it takes a second."""
    names = [*ALIKE, *(AS_ROOT if not os.geteuid() else [])]
    native = natively(scenarios, tmp_path_factory.mktemp("native"), *names)
    with temporary_mount(tmp_path_factory.mktemp("compared")) as mount:
        done = under("--", scenarios, mount.path, *names)
    assert (done.returncode, done.stderr) == (0, "")
    return native, answers(done.stdout)


@pytest.mark.parametrize("name", [*ALIKE, *AS_ROOT])
def test_a_program_gets_the_same_answers(name: str, compared: Compared) -> None:
    native, ours = compared
    if name not in native:
        pytest.skip("only root may change its root")
    assert ours[name] == native[name]
    assert native[name].endswith("status: 0\n")


def test_a_program_of_32_bits_gets_the_same_answers(
    fusenotify_mount: TemporaryMount, tmp_path: Path
) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("i386's programs run on x86_64")
    try:
        program = compiled(tmp_path, "-m32")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("gcc makes no programs of 32 bits (gcc-multilib)")
    (tmp_path / "native").mkdir()
    done = under("--", program, fusenotify_mount.path, *ALIKE)
    assert answers(done.stdout) == natively(program, tmp_path / "native", *ALIKE)


def test_an_ordinary_user_gets_the_same_answers(
    scenarios: Path, nobody: User, tmp_path: Path, public_path: Path
) -> None:
    (tmp_path / "native").mkdir()
    names = [
        "events_are_read",
        "size_300",
        "forked",
        "executed",
        "refused",
        "own_paths",
        "all_instances",
    ]
    for name in ("source", "native"):
        (public_path / name).mkdir()
        os.chown(public_path / name, nobody.uid, nobody.uid)
    program = public_path / "scenarios"
    program.write_bytes(scenarios.read_bytes())
    program.chmod(0o755)
    source = str(public_path / "source")
    run = [nobody.python, "-m", "fusenotify", "run", "--mount", source, "--"]
    native = nobody.run(program, public_path / "native", *names)
    ours = nobody.run_with_fuse(*run, program, source, *names)
    assert (ours.returncode, ours.stderr) == (0, "")
    assert answers(ours.stdout) == answers(native.stdout)


def test_a_process_that_is_not_dumpable_has_the_kernels_inotify_and_a_warning(
    scenarios: Path, nobody: User, public_path: Path
) -> None:
    os.chown(public_path, nobody.uid, nobody.uid)
    program = public_path / "scenarios"
    program.write_bytes(scenarios.read_bytes())
    program.chmod(0o755)
    run = [nobody.python, "-m", "fusenotify", "run", "--"]
    done = nobody.run(*run, program, public_path, "not_dumpable")
    assert done.stdout.splitlines() == ["add: 1", "read: 32: 1/100/a"]
    assert "not dumpable" in done.stderr


def test_a_program_that_gave_up_its_rights_watches_only_what_it_may(
    nobody: User, public_path: Path
) -> None:
    (public_path / "closed" / "below").mkdir(parents=True)
    (public_path / "closed").chmod(0o700)
    code = (
        "import ctypes, errno, sys; libc = ctypes.CDLL(None, use_errno=True)\n"
        "fd = libc.inotify_init()\n"
        "for path in sys.argv[1:]:\n"
        "    print(libc.inotify_add_watch(fd, path.encode(), 256), ctypes.get_errno())"
    )
    paths = [str(public_path / name) for name in ("closed/below", "closed", "")]
    done = under("--", *nobody.as_user([nobody.python, "-c", code, *paths]))
    assert done.stdout.splitlines()[:2] == ["-1 13", "-1 13"]
    assert done.stdout.splitlines()[2].startswith("1 ")


def test_faults_are_caused_to_the_programs_devices(scenarios: Path, tmp_path: Path) -> None:
    options = ["--faults=lose 3 --mask CREATE", f"--mount={tmp_path}"]
    done = under(*options, "--", scenarios, tmp_path, "fionread")
    assert done.stdout.splitlines()[1] == f"many: {497 * 32}"


def test_a_fault_that_the_mount_does_not_allow_is_said(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    done = under("--faults=lose 3", "--", scenarios, fusenotify_mount.path, "old_init")
    assert done.stdout.splitlines() == ["add: 1", "read: 32: 1/100/a"]
    assert "the fault was not caused" in done.stderr


def test_a_connection_that_is_always_lost_fails_the_call(scenarios: Path, tmp_path: Path) -> None:
    options = ["--faults=disconnect", f"--mount={tmp_path}"]
    done = under(*options, "--", scenarios, tmp_path, "too_many_watches")
    assert done.stdout.splitlines()[:3] == ["1: ENOTCONN", "2: ENOTCONN", "3: 1"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [("inject 1 CREATE a", "has no watch yet"), ("lose 1 --device 2", "--device")],
)
def test_a_fault_that_makes_no_sense_in_a_run_is_refused(fault: str, says: str) -> None:
    done = under(f"--faults={fault}", "--", "true")
    assert done.returncode == 125
    assert says in done.stderr


def test_a_program_whose_directory_is_mounted_over_works_in_the_mount(
    scenarios: Path, tmp_path: Path
) -> None:
    done = under("--mount", ".", "--", scenarios, ".", "events_are_read", cwd=tmp_path)
    assert done.stdout.splitlines()[1].startswith("read: 384: 1/100/a")
    assert done.returncode == 0


def test_a_queue_of_four_overflows_as_the_kernels_would(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    done = under("--max-queued-events=4", "--", scenarios, fusenotify_mount.path, "overflow")
    assert done.stdout.splitlines() == [
        "unread: 144",
        "read: 32: 1/100/0",
        "read: 112: 1/100/1 1/100/2 1/100/3 -1/4000/",
        "read: EAGAIN",
        "read: 32: 1/100/z",
        "read: EAGAIN",
    ]


@pytest.mark.parametrize(("most", "events"), [(4, 10), (200, 400)])
def test_a_queue_overflows_at_its_limit_however_small_the_reads_are(
    most: int, events: int, scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    done = under(
        f"--max-queued-events={most}",
        "--",
        scenarios,
        fusenotify_mount.path,
        f"overflow_of_{events}",
    )
    assert done.stdout.splitlines() == [
        f"records: {most + 1}",
        "the last is the overflow: 1",
    ]


def test_the_old_semantics_overflow_once_for_each_read(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    done = under(
        "--max-queued-events=4",
        "--semantics=linux-2.6.18",
        "--",
        scenarios,
        fusenotify_mount.path,
        "overflow",
    )
    assert done.stdout.splitlines()[2] == "read: 128: 1/100/1 1/100/2 1/100/3 -1/4000/ -1/4000/"


def test_a_read_whose_descriptor_another_thread_closes_ends(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    done = under("--", scenarios, fusenotify_mount.path, "closed_by_another_thread")
    assert done.stdout == "another thread: EBADF\n"


def test_a_directory_that_is_mounted_again_is_watched_again(
    tmp_path: Path, public_path: Path
) -> None:
    # The new mount often has the device number of the old one.
    program = (
        "import sys, subprocess\n"
        "from inotify_simple import INotify, flags\n"
        "inotify = INotify()\n"
        "for again in range(2):\n"
        "    subprocess.run([*sys.argv[3:], 'mount', *sys.argv[1:3]], check=True)\n"
        "    inotify.add_watch(sys.argv[2], flags.CREATE)\n"
        "    open(f'{sys.argv[2]}/{again}', 'w').close()\n"
        "    print([event.name for event in inotify.read(20000)], flush=True)\n"
        "    subprocess.run([*sys.argv[3:], 'unmount', sys.argv[2]], check=True)\n"
        "    print([event.mask for event in inotify.read(20000)], flush=True)\n"
    )
    mountpoint = public_path / "mountpoint"
    mountpoint.mkdir()
    command = [sys.executable, "-c", program, str(tmp_path), str(mountpoint), *FUSENOTIFY]
    done = under("--", *command)
    ended = [f"[{IN_UNMOUNT | IN_ISDIR}, {IN_IGNORED}]"]
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert (done.returncode, lines) == (0, ["['0']", *ended, "['1']", *ended])


def test_events_come_where_a_daemon_lets_no_request_wait(
    scenarios: Path, tmp_path: Path, public_path: Path
) -> None:
    with mounted(tmp_path, public_path, max_waiting_requests=0) as mount:
        done = under("--", scenarios, mount.mountpoint, "polled", "threads")
    (tmp_path / "native").mkdir()
    assert answers(done.stdout) == natively(scenarios, tmp_path / "native", "polled", "threads")


def test_the_watches_of_a_run_are_limited(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    done = under("--max-user-watches=3", "--", scenarios, fusenotify_mount.path, "too_many_watches")
    assert done.stdout.splitlines() == [
        "1: 1",
        "2: 2",
        "3: 1",
        "4: ENOSPC",
        "1 again: 1",
        "read: EAGAIN",
        "4: 1",
    ]


def test_the_instances_of_a_run_are_limited(scenarios: Path, tmp_path: Path) -> None:
    done = under("--max-user-instances=3", "--", scenarios, tmp_path, "all_instances")
    assert done.stdout.splitlines() == [
        "one more: EMFILE",
        "instances: 3",
        "the last has a copy: EMFILE",
        "the last is closed: 1",
        "one more: EMFILE",
    ]


def test_a_mount_of_the_run_has_limits_as_high_as_the_run(scenarios: Path, tmp_path: Path) -> None:
    options = ["--max-user-instances=150", "--mount", str(tmp_path)]
    done = under(*options, "--", sys.executable, "-c", MANY_INSTANCES, tmp_path)
    assert (done.stdout, done.stderr) == ("150\n", "")
