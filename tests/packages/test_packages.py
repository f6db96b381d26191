# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in the source distribution and in the wheel, what an index shows, what is installed."""

from __future__ import annotations

import argparse
import email.message
import email.parser
import email.policy
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from fusenotify.cli import configured_parsers
from fusenotify.cli.completion import script
from tests.conftest import REPOSITORY
from tests.packages.conftest import Built, run

# What only a checkout needs.
CHECKOUT = {".ci/run"}


def metadata(built: Built) -> email.message.Message:
    (found,) = built.prefix.glob("lib/*/site-packages/*.dist-info/METADATA")
    return email.parser.BytesParser(policy=email.policy.default).parsebytes(found.read_bytes())


def test_an_index_takes_both(built: Built) -> None:
    said = run("twine", "--no-color", "check", "--strict", str(built.sdist), str(built.wheel))
    assert said.count("PASSED") == 2


def test_the_wheel_has_what_a_wheel_should(built: Built) -> None:
    assert run("check_wheel_contents", "--no-config", str(built.wheel)).endswith(": OK\n")


def test_the_wheel_has_each_module_and_the_mark_of_types(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("fusenotify/")}
    modules = (REPOSITORY / "fusenotify").rglob("*.py")
    assert packed == {
        "fusenotify/py.typed",
        *(str(each.relative_to(REPOSITORY)) for each in modules),
    }


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="this is no checkout")
def test_the_source_distribution_has_each_file_of_the_repository(built: Built) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True
    )
    tracked = {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
    packed = {
        str(each.relative_to(built.unpacked))
        for each in built.unpacked.rglob("*")
        if each.is_file()
    }
    assert tracked - packed == CHECKOUT


def test_tests_run_where_the_source_distribution_is_unpacked(built: Built) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/engine/test_device.py",
        ],
        cwd=built.unpacked,
        env={**os.environ, "PYTHONPATH": str(built.unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stdout
    assert " passed" in done.stdout


def test_the_page_of_an_index_has_no_link_into_the_repository(built: Built) -> None:
    shown = metadata(built)
    description = str(shown.get_payload())
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    headings = re.findall(r"^#.*", (REPOSITORY / "README.md").read_text(), re.M)
    assert [heading for heading in headings if heading not in description] == []
    assert "in the source distribution" in description
    assert shown["License-Expression"] == "GPL-2.0-or-later"
    assert "Typing :: Typed" in shown.get_all("Classifier", [])


def test_each_python_that_is_promised_is_named(built: Built) -> None:
    shown = metadata(built)
    assert shown["Requires-Python"] == ">=3.11"
    named = [
        each.rpartition(" ")[2]
        for each in shown.get_all("Classifier", [])
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", each)
    ]
    assert named == ["3.11", "3.12", "3.13"]


def test_the_changelog_has_the_version(built: Built) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    first = re.search(r"^## \[?([^ \]]+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.M)
    assert first is not None
    assert first[1] == project["version"] == metadata(built)["Version"]


def pages(built: Built) -> list[Path]:
    return sorted((built.prefix / "share/man/man1").iterdir())


def test_each_command_has_a_manual_page_with_all_its_options(built: Built) -> None:
    program, parsers = configured_parsers()
    wanted = {"fusenotify": program} | {
        f"fusenotify-{name}": each for name, each in parsers.items()
    }
    assert sorted(page.stem for page in pages(built)) == sorted(wanted)
    for page in pages(built):
        text = page.read_text().replace("\\-", "-")
        missing = [
            word
            for action in wanted[page.stem]._actions
            if action.help != argparse.SUPPRESS
            for word in action.option_strings or [str(action.metavar or action.dest)]
            if not re.search(rf"^.*(?<![\w-]){re.escape(word)}(?![\w-])", text, re.M)
        ]
        assert missing == [], page.name
        (name,) = re.findall(r"^\.SH NAME\n(.*)", text, re.M)
        assert name.replace("\\-", "-").startswith(f"{page.stem} - ")


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man here")
def test_man_finds_the_pages_of_what_is_on_the_path(built: Built) -> None:
    path = f"{built.prefix}/bin:{os.environ['PATH']}"
    for page in pages(built):
        found = said("man", "--where", page.stem, PATH=path)
        assert found == f"{page}\n"
        assert (
            said("man", "--warnings", "--encoding=UTF-8", page.stem, PATH=path).count("SYNOPSIS")
            == 1
        )
        said("lexgrog", str(page))


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="there is no mandoc here")
def test_mandoc_finds_nothing_wrong_with_the_pages(built: Built) -> None:
    assert said("mandoc", "-Tlint", "-Wwarning", *map(str, pages(built))) == ""


def test_shells_find_the_completion_that_the_command_prints(built: Built) -> None:
    for shell, place in {
        "bash": "bash-completion/completions/fusenotify",
        "zsh": "zsh/site-functions/_fusenotify",
        "fish": "fish/vendor_completions.d/fusenotify.fish",
    }.items():
        assert (built.prefix / "share" / place).read_text() == script(shell)


def said(*command: str, **environment: str) -> str:
    """Run a program, which must succeed, and return all that it said."""
    done = subprocess.run(
        command,
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stdout
    return done.stdout
