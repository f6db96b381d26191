# SPDX-License-Identifier: GPL-2.0-or-later
"""The directive ``command-help``: what ``fusenotify COMMAND --help`` prints, 80 columns wide.

The text comes from the command itself when the manual is made, so it is never
out of date.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from fusenotify.cli.commands import COMMANDS

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def help_of(*words: str) -> str:
    """Return what the command prints on standard output when asked for help."""
    # A process of its own, because wait and watch write past sys.stdout.
    done = subprocess.run(
        [sys.executable, "-m", "fusenotify", *words, "--help"],
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


class CommandHelp(SphinxDirective):
    """``{command-help}``: a section for fusenotify itself, and one for each command."""

    def run(self) -> list[nodes.Node]:
        return [self._section("fusenotify"), *(self._section(name, name) for name in COMMANDS)]

    def _section(self, title: str, *words: str) -> nodes.section:
        section = nodes.section(ids=[title], names=[title])
        text = help_of(*words)
        section += [nodes.title(title, title), nodes.literal_block(text, text, language="text")]
        self.state.document.note_implicit_target(section)
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
