# SPDX-License-Identifier: GPL-2.0-or-later
"""The directive ``command-help``: what ``fusenotify COMMAND --help`` prints, 80 columns wide.

The text comes from the commands' own parsers when the manual is made, so it is
never out of date.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from unittest import mock

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from fusenotify.cli import configured_parsers

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class CommandHelp(SphinxDirective):
    """``{command-help}``: a section for fusenotify itself, and one for each command."""

    def run(self) -> list[nodes.Node]:
        with mock.patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"):
            program, commands = configured_parsers()
            texts = {"fusenotify": program.format_help()}
            texts |= {name: parser.format_help() for name, parser in commands.items()}
        return [self._section(name, text) for name, text in texts.items()]

    def _section(self, title: str, text: str) -> nodes.section:
        section = nodes.section(ids=[title], names=[title])
        section += [nodes.title(title, title), nodes.literal_block(text, text, language="text")]
        self.state.document.note_implicit_target(section)
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
