# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in fenced blocks in README.md, CONTRIBUTING.md and docs/, and how each is tried.

Invariant
    Every block is of one kind.  One that is not written as agreed (indented only,
    in an unknown language, with an unknown note) is "wrong", and a test says why.

A comment in front of a block, unseen in the manual, has notes about it, one a
line: ``<!-- NOTE: VALUE -->``, or ``<!-- NOTE -->``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.conftest import REPOSITORY

RUN = {"console", "python", "sh", "bash"}
DATA = {"text", "ini", "toml", "json", "systemd", "mermaid"}
# What MyST makes a part of the manual from; building it is its test.
DIRECTIVE = re.compile(r"\{[\w-]+\}")
NOTES = {"not run", "numbers vary", "before", "meanwhile", "prints", "file", "run by"}
_NOTE = re.compile(r"<!--\s*([a-z ]+?)\s*(?::\s*(.*?)\s*)?-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block: page is its path in the repository, line that of its first line, from 1."""

    page: str
    line: int
    language: str
    text: str
    notes: dict[str, str]
    wrong: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def kind(self) -> str:
        """Return how it is tried.

        session: a shell runs it, and it must print what is shown.  file: a session
        finds it in its directory.  test: pytest runs it.  interactive: doctest runs it.
        program: Python runs it, in a mount.  commands: a shell and, where they are
        ours, the command line parse it.  data: nothing to try.  directive: a part of
        the manual.  not run: nothing but a reason.  run by: a test of its own.
        """
        if self.wrong:
            return "wrong"
        for note in ("not run", "run by", "file"):
            if note in self.notes:
                return note
        if self.language == "console":
            return "session"
        if self.language == "python":
            if "def test_" in self.text:
                return "test"
            return "interactive" if self.text.startswith(">>> ") else "program"
        if self.language in ("sh", "bash"):
            return "commands"
        if self.language in DATA:
            return "data"
        return "directive"


def paths() -> list[str]:
    """Return the pages, README first, as paths in the repository."""
    pages = sorted(REPOSITORY.glob("docs/**/*.md"))
    return ["README.md", "CONTRIBUTING.md", *(str(page.relative_to(REPOSITORY)) for page in pages)]


def parse(page: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    notes: dict[str, str] = {}
    for token in MarkdownIt().parse(text):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            notes |= {name: value or "" for name, value in _NOTE.findall(token.content)}
            continue
        language = token.info.strip().split(" ")[0]
        wrong = ""
        if token.type == "code_block":
            wrong = "an indented block: give it a fence and a language"
        elif token.type == "fence" and (unknown := notes.keys() - NOTES):
            wrong = f"unknown: {', '.join(unknown)}"
        elif token.type != "fence" and notes.keys() & NOTES:
            wrong = "notes, and no block behind them"
        elif token.type == "fence" and not (language in RUN | DATA or DIRECTIVE.match(language)):
            wrong = f"a block in {language or 'no language'}"
        if token.type == "fence" or wrong:
            yield Block(page, line, language, token.content, notes, wrong)
        notes = {}


@functools.cache
def blocks(page: str) -> list[Block]:
    """Return the blocks of a page of the repository, in order."""
    return list(parse(page, Path(REPOSITORY, page).read_text()))


def of_kind(*kinds: str) -> list[Block]:
    """Return the blocks of all pages that are of these kinds."""
    return [block for page in paths() for block in blocks(page) if block.kind in kinds]
