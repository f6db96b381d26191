# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors, environment and disks: none harms a run, and none is changed by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusenotify.testing import TemporaryMount, temporary_mount
from tests.cli.command import environment
from tests.run_under.programs import run_command, under


@pytest.mark.parametrize("closed", [{1}, {0, 1, 2}], ids=str)
def test_descriptors_that_are_closed_are_closed_in_the_program(
    closed: set[int], tmp_path: Path
) -> None:
    script = f"(for n in 0 1 2; do test -e /dev/fd/$n && echo $n; done) > {tmp_path}/open; exit 7"
    redirections = " ".join(f"{number}>&-" for number in closed)
    command = ["sh", "-c", f'"$@" {redirections}', "sh", *run_command("--", "bash", "-c", script)]
    assert subprocess.run(command, env=environment(), timeout=60, check=False).returncode == 7
    # 1 is the file.
    left = {int(line) for line in (tmp_path / "open").read_text().split()}
    assert left == {0, 1, 2} - closed | {1}


def test_the_environment_is_the_programs() -> None:
    # Python sets LC_CTYPE where it finds the "C" locale.
    variables = {"PYTHONPATH": environment()["PYTHONPATH"], "PATH": os.environ["PATH"]}
    for more in ({}, {"LC_CTYPE": "C"}):
        done = subprocess.run(
            run_command("--", "/usr/bin/env"),
            env=variables | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert dict(line.split("=", 1) for line in done.stdout.splitlines()) == variables | more


def test_a_program_whose_name_is_not_text_is_named_if_it_is_missing() -> None:
    done = under("--", os.fsdecode(b"no-\xff-such"))
    assert (done.returncode, done.stderr) == (
        127,
        "fusenotify run: no-\\xff-such: No such file or directory\n",
    )


def test_an_empty_name_is_no_program() -> None:
    done = under("--", "")
    assert done.returncode == 127
    assert "No such file or directory" in done.stderr


def test_a_script_without_an_interpreters_name_is_the_shells(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    assert under("--", script, "given").stdout == f"{script} given\n"


@pytest.mark.mount
def test_a_program_may_use_all_descriptors_of_a_small_limit(
    scenarios: Path, fusenotify_mount: TemporaryMount
) -> None:
    run = run_command("--", scenarios, fusenotify_mount.path, "many_descriptors")
    done = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 110; exec "$@"', "sh", *run],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("good: 300\n", "")


def test_events_are_recorded_once_and_in_their_order(
    scenarios: Path, fusenotify_mount: TemporaryMount, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    under(f"--record={record}", "--", scenarios, fusenotify_mount.path, "storm_of_500")
    entries = [json.loads(line) for line in record.read_text().splitlines()]
    names = [event["name"] for entry in entries for event in entry.get("events", ())]
    assert names == [str(number) for number in range(500)]


@pytest.mark.mount
def test_a_record_on_a_full_disk_ends_and_the_program_goes_on(
    scenarios: Path, tmp_path: Path
) -> None:
    done = under("--record=/dev/full", "--", scenarios, tmp_path, "merging")
    assert done.stdout == "read: 32: 1/2/a\n" * 3 + "read: EAGAIN\n"
    assert done.stderr == (
        "fusenotify run: /dev/full: the record ends here: No space left on device\n"
    )


@pytest.mark.mount
def test_a_log_that_nobody_reads_ends_and_the_program_goes_on(
    scenarios: Path, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            run_command("--log", "--", scenarios, tmp_path, "merging"),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == "read: 32: 1/2/a\n" * 3 + "read: EAGAIN\n"


@pytest.mark.mount
def test_a_socket_that_is_seen_elsewhere_is_named_by_the_environment(
    scenarios: Path, fusenotify_mount: TemporaryMount, tmp_path: Path
) -> None:
    socket = Path(os.fsdecode(os.getxattr(fusenotify_mount.path, "user.fusenotify.socket")))
    elsewhere = tmp_path / "elsewhere"
    socket.rename(elsewhere)
    try:
        for named, warns in ((elsewhere, False), (tmp_path / "nothing", True)):
            run = run_command("--", scenarios, fusenotify_mount.path, "merging")
            done = subprocess.run(
                run,
                env=environment() | {"FUSENOTIFY_SOCKET": str(named)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.stdout == "read: 32: 1/2/a\n" * 3 + "read: EAGAIN\n"
            assert ("the kernel's inotify is used" in done.stderr) == warns
    finally:
        elsewhere.rename(socket)


@pytest.mark.mount
def test_the_socket_of_another_mount_is_used_for_that_mount_only(
    scenarios: Path, fusenotify_mount: TemporaryMount, tmp_path: Path
) -> None:
    with temporary_mount(tmp_path) as other:
        socket = os.fsdecode(os.getxattr(other.path, "user.fusenotify.socket"))
        hidden = Path(os.fsdecode(os.getxattr(fusenotify_mount.path, "user.fusenotify.socket")))
        for hide in (False, True):
            if hide:
                hidden.rename(tmp_path / "hidden")
            try:
                done = subprocess.run(
                    run_command("--", scenarios, fusenotify_mount.path, "merging"),
                    env=environment() | {"FUSENOTIFY_SOCKET": socket},
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
            finally:
                if hide:
                    (tmp_path / "hidden").rename(hidden)
            assert done.stdout == "read: 32: 1/2/a\n" * 3 + "read: EAGAIN\n"
            assert ("the kernel's inotify is used" in done.stderr) == hide


HANGING = """
import ctypes, os, signal, sys, threading
directory, daemon, other = sys.argv[1:]
libc = ctypes.CDLL(None)
inotify = libc.inotify_init1(0)

def watch(path):
    return libc.inotify_add_watch(inotify, os.fsencode(path), 0x100)

os.kill(int(daemon), signal.SIGSTOP)
try:
    waiting = [threading.Thread(target=watch, args=(f"{directory}/{n}/x",)) for n in range(40)]
    for thread in waiting:
        thread.start()
    signal.alarm(20)
    print([watch(path) for path in (other, f"{other}/none", f"{other}/cwd", "/")], flush=True)
finally:
    os.kill(int(daemon), signal.SIGCONT)
for thread in waiting:
    thread.join()
"""


@pytest.mark.mount
def test_a_mount_that_hangs_keeps_only_those_waiting_who_ask_for_it(
    fusenotify_mount: TemporaryMount, tmp_path: Path
) -> None:
    (tmp_path / "cwd").symlink_to("/proc/self/cwd")
    daemon = fusenotify_mount.pid
    try:
        done = under(
            *("--", sys.executable, "-c", HANGING),
            *(fusenotify_mount.path, str(daemon), tmp_path),
            cwd=tmp_path,
        )
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert (done.stdout, done.stderr, done.returncode) == ("[1, -1, 1, 2]\n", "", 0)
