# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual is built without a warning, and what it and the other pages link to is there."""

from __future__ import annotations

import html
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from fusenotify.cli.commands import COMMANDS
from tests.cli.command import FUSENOTIFY, environment
from tests.conftest import REPOSITORY

OUTSIDE = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual in HTML."""
    place = tmp_path_factory.mktemp("manual")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(place / "cache")]
        + [str(REPOSITORY / "docs"), str(place / "html")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    return place / "html"


def test_the_manual_is_built_without_a_warning(built: Path) -> None:
    assert (built / "index.html").is_file()


def test_every_command_is_in_the_reference_as_it_tells_of_itself(built: Path) -> None:
    page = (built / "reference" / "command-line.html").read_text()
    printed = subprocess.run(
        [*FUSENOTIFY, "wait", "--help"],
        env=environment() | {"COLUMNS": "80"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert html.escape(printed).strip() in html.escape(html.unescape(page))
    assert {name for name in COMMANDS if f"usage: fusenotify {name} " not in page} == set()


@pytest.mark.parametrize(
    "module", ["fusenotify", "client", "client.aio", "nats", "testing", "watchdog"]
)
def test_every_public_name_is_in_the_api(module: str, built: Path) -> None:
    page = (built / "reference" / "api.html").read_text()
    whole = module if module == "fusenotify" else f"fusenotify.{module}"
    names = importlib.import_module(whole).__all__
    shared = "fusenotify.client" if module == "client.aio" else whole
    missing = {
        name
        for name in names
        if f'id="{whole}.{name}"' not in page and f'id="{shared}.{name}"' not in page
    }
    assert missing == set()


def links(path: Path) -> Iterator[str]:
    for token in MarkdownIt().enable("table").parse(path.read_text()):
        for child in token.children or ():
            if child.type in ("link_open", "image"):
                target = str(child.attrs.get("href", child.attrs.get("src")))
                if "://" not in target:
                    yield target


@pytest.mark.parametrize("page", [name for name in OUTSIDE if Path(REPOSITORY, name).exists()])
def test_pages_beside_the_manual_link_to_what_is_there(page: str, built: Path) -> None:
    for target in links(REPOSITORY / page):
        path, _, anchor = target.partition("#")
        assert Path(REPOSITORY, path).exists(), target
        if anchor and path.startswith("docs/"):
            made = (built / path.removeprefix("docs/")).with_suffix(".html").read_text()
            assert f'id="{anchor}"' in made, target
