# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients in C and JavaScript see what Python ones see; docs/reference/protocol.md was enough."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.running import MOUNTPOINT, Running

HERE = Path(__file__).parent


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(str(tmp_path / "x.sock"), MOUNTPOINT)
    running.start()
    yield running
    running.stop()


@pytest.fixture(params=["C", "JavaScript"])
def watch(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command that runs a client."""
    if request.param == "C":
        compiler = shutil.which("gcc")
        if compiler is None:
            pytest.skip("gcc is missing: the C client was not tried")
        program = str(tmp_path / "watch")
        flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-D_DEFAULT_SOURCE"]
        subprocess.run([compiler, *flags, "-o", program, HERE / "watch.c"], check=True)
        return [program]
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing: the JavaScript client was not tried")
    probe = [node, "-e", "require('@msgpack/msgpack')"]
    if subprocess.run(probe, cwd=HERE, capture_output=True, check=False).returncode:
        pytest.skip(f"@msgpack/msgpack is missing ('npm install @msgpack/msgpack' in {HERE})")
    return [node, str(HERE / "watch.js")]


def test_a_foreign_client_prints_the_events(running: Running, watch: list[str]) -> None:
    running.make("docs", directory=True)
    with subprocess.Popen(
        [*watch, running.socket, "docs"], stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching as 1\n"
        running.make("docs/a", "docs/" + "n" * 200)
        assert watcher.stdout.readline() == "1 0x100 0 a\n"
        assert watcher.stdout.readline() == f"1 0x100 0 {'n' * 200}\n"
        running.do(running.tree.unmount)
        assert [line.split()[1] for line in watcher.stdout] == ["0x40002000", "0x8000"]
    assert watcher.returncode == 0


def test_a_foreign_client_watches_a_tree(running: Running, watch: list[str]) -> None:
    running.make("docs", directory=True)
    with subprocess.Popen(
        [*watch, running.socket, "docs", "tree"], stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching as 1\n"
        running.make("docs/a", directory=True)
        running.make("docs/a/b", directory=True)
        running.make("docs/a/b/" + "n" * 200)
        lines = [watcher.stdout.readline() for _ in range(3)]
        assert lines == [
            "1 0x40000100 0 a\n",
            "1 0x40000100 0 a/b\n",
            f"1 0x100 0 a/b/{'n' * 200}\n",
        ]
        running.do(running.tree.unmount)
        assert [line.split()[1] for line in watcher.stdout] == ["0x40002000", "0x8000"]
    assert watcher.returncode == 0


def test_a_foreign_client_gets_a_refusal(running: Running, watch: list[str]) -> None:
    done = subprocess.run(
        [*watch, running.socket, "none"], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 1
    assert "none" in done.stderr
