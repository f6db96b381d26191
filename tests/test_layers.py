# SPDX-License-Identifier: GPL-2.0-or-later
"""Layers import downwards only, and a client needs neither trio nor pyfuse3."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fusenotify

PACKAGE = Path(fusenotify.__file__).parent

VALUES = {
    "admission",
    "bits",
    "credentials",
    "errors",
    "events",
    "heard",
    "masks",
    "mountinfo",
    "plain",
    "proc",
    "socket_file",
    "view",
}
# What handles many events has plain ints for masks: an IntFlag's arithmetic is slow.
QUICK = VALUES - {"masks"}
# What each layer may import of ours.  Those above see everything.
ALLOWED = {
    **{value: set[str]() for value in VALUES},
    "admission": {"credentials"},
    "masks": {"bits"},
    "engine": QUICK,
    "fs": QUICK | {"engine"},
    "protocol": QUICK,
    "history": QUICK | {"engine"},
    "server": QUICK | {"engine", "protocol", "history"},
    "client": VALUES | {"protocol"},
    "mounting": VALUES | {"engine", "fs", "history", "server", "client"},
    "run": VALUES | {"protocol", "client"},
    "cli": VALUES | {"protocol", "client", "mounting", "run", "nats"},
    "testing": VALUES | {"engine", "protocol", "client", "mounting"},
    "nats": VALUES | {"protocol", "client"},
    "watchdog": VALUES | {"client"},
    "": {"mounting"},
    "__main__": {"cli"},
    "pytest_plugin": {"", "engine", "testing"},
}
# What each layer may import of others'.
LIBRARIES = {
    **{value: set[str]() for value in VALUES},
    "engine": {"pathspec", "re2"},
    "fs": {"trio", "pyfuse3"},
    "history": {"msgspec"},
    "protocol": {"msgspec"},
    "server": {"trio"},
    "client": {"anyio", "typing_extensions"},
    "mounting": {"trio"},
    "run": set[str](),
    "cli": {"msgspec", "rich", "shtab"},
    "testing": set[str](),
    "nats": {"msgspec", "nats", "nkeys"},
    "watchdog": {"watchdog"},
    "": set[str](),
    "__main__": set[str](),
    "pytest_plugin": {"pytest"},
}
# Of the standard library, for what is the command line's.
COMMAND_LINE = {"argparse", "getopt", "optparse"}


def layer(module: str) -> str:
    """Return the part of a dotted name after the package's; "" for the package."""
    return (module.split(".") + [""])[1]


def module_name(path: Path) -> str:
    parts = ["fusenotify", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """Return what a module imports, wherever in it, for types alone or not."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            assert node.module is not None
            # "from fusenotify.x import y" may import a module or a name of the package.
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & MODULES.keys() or {node.module}
    return found


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_the_layers_below(module: str) -> None:
    own = layer(module)
    assert own in ALLOWED, f"{module} belongs to no layer"
    ours = {layer(name) for name in imports(MODULES[module]) if name.startswith("fusenotify")}
    assert ours <= ALLOWED[own] | {own}


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_the_libraries_of_its_layer(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports(MODULES[module])}
    assert roots - sys.stdlib_module_names - {"fusenotify"} <= LIBRARIES[layer(module)]


def test_only_the_daemon_sees_both_filesystem_and_server() -> None:
    seers = {
        module
        for module, path in MODULES.items()
        if {"fs", "server"} <= {layer(name) for name in imports(path)}
    }
    assert seers == {"fusenotify.mounting.daemon"}


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_parses_arguments_and_prints(module: str) -> None:
    if layer(module) == "cli":
        return
    assert not imports(MODULES[module]) & COMMAND_LINE
    names = {node.id for node in ast.walk(parsed(MODULES[module])) if isinstance(node, ast.Name)}
    assert "print" not in names


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {module: imports(path) & MODULES.keys() - {module} for module, path in MODULES.items()}
    # The one that is a fact: an inode has watches, and a watch has an inode.
    graph["fusenotify.engine.watches"].remove("fusenotify.engine.inodes")
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_short_enough_to_read(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) < 400


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        pytest.param(
            ["fusenotify"], ["trio", "pyfuse3", "anyio", "msgspec", "rich"], id="the package"
        ),
        pytest.param(
            ["fusenotify.client"], ["trio", "pyfuse3", "fusenotify.engine"], id="the client"
        ),
        pytest.param(
            ["fusenotify.client.aio"], ["pyfuse3", "fusenotify.engine"], id="the client, async"
        ),
        pytest.param(
            ["fusenotify.engine.hooks", "fusenotify.engine.device"],
            ["trio", "pyfuse3", "msgspec"],
            id="the engine",
        ),
        pytest.param(
            ["fusenotify.protocol.codec", "fusenotify.protocol.messages"],
            ["trio", "pyfuse3", "socket"],
            id="the protocol",
        ),
        pytest.param(
            ["fusenotify.history.journal", "fusenotify.history.reading"],
            ["trio", "pyfuse3", "fusenotify.protocol"],
            id="the journal",
        ),
        pytest.param(["fusenotify.server"], ["pyfuse3", "fusenotify.fs"], id="the server"),
        pytest.param(
            ["fusenotify.cli.mount", "fusenotify.mounting.checks"],
            ["trio", "pyfuse3", "msgspec", "rich"],
            id="mount, until the settings are checked",
        ),
        pytest.param(
            [
                *("fusenotify.cli.wait", "fusenotify.cli.status", "fusenotify.cli.unmount"),
                *("fusenotify.cli.fault", "fusenotify.cli.watch", "fusenotify.cli.top"),
            ],
            ["trio", "pyfuse3", "fusenotify.fs"],
            id="the clients' commands",
        ),
        pytest.param(
            ["fusenotify.watchdog"],
            ["trio", "pyfuse3", "rich", "fusenotify.engine", "fusenotify.mounting.daemon"],
            id="the watchdog observer",
        ),
        pytest.param(
            ["fusenotify.pytest_plugin"],
            [
                *("trio", "pyfuse3", "anyio", "msgspec", "rich"),
                *("fusenotify.engine", "fusenotify.client", "fusenotify.testing"),
            ],
            id="the pytest plugin",
        ),
        pytest.param(
            ["fusenotify.testing"],
            ["trio", "pyfuse3", "anyio", "msgspec", "rich", "pytest", "fusenotify.client"],
            id="what the pytest plugin hands out",
        ),
    ],
)
def test_import_loads_no_more_than_it_may(modules: list[str], absent: list[str]) -> None:
    code = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
        f"print(*sorted(set({absent}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
