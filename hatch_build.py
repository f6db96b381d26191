# SPDX-License-Identifier: GPL-2.0-or-later
"""What a wheel has beside the package: manual pages and completion, made from the parsers.

hatchling calls the hook when it builds a wheel, also from an unpacked source distribution.
An installer puts the files below the environment's prefix, where man and the shells look.
An editable install has none of them; ``fusenotify completion SHELL`` is there in each.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import core, nodes, utils
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Where each shell looks for the completion of a command.
_COMPLETIONS = {
    "bash": "share/bash-completion/completions/fusenotify",
    "zsh": "share/zsh/site-functions/_fusenotify",
    "fish": "share/fish/vendor_completions.d/fusenotify.fish",
}
_STATUS = (
    "0 when the command did what was asked, 1 when it failed (one line on stderr says why), "
    "2 for wrong usage."
)
_STATUS_OF = {
    "wait": "That of inotifywait: 0 when an event came that was waited for, 1 for an error, "
    "2 when the time of -t was over.",
    "watch": "That of inotifywatch: 0 when the counts were printed, 1 for an error.",
}
_SEE_ALSO_OF = {
    "mount": ["mount.fuse3(8)", "fuse(4)"],
    "unmount": ["fusermount3(1)"],
    "wait": ["inotifywait(1)"],
    "watch": ["inotifywatch(1)"],
}


class FilesFromParsers(BuildHookInterface):  # type: ignore[type-arg]
    """The hook: makes the files before the wheel is put together, and removes them afterwards."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._made = tempfile.mkdtemp(prefix="fusenotify-build-")
        sys.path.insert(0, self.root)
        os.environ["COLUMNS"] = "80"
        for path, text in {**manual_pages(self.metadata.version), **completions()}.items():
            made = Path(self._made, path)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(text)
            build_data["shared_data"][str(made)] = path

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self._made)


def completions() -> dict[str, str]:
    """Return the script of each shell by its path below a prefix."""
    from fusenotify.cli.completion import script

    return {path: script(shell) for shell, path in _COMPLETIONS.items()}


def manual_pages(version: str) -> dict[str, str]:
    """Return fusenotify(1) and the page of each command by their paths below a prefix."""
    from fusenotify.cli import configured_parsers
    from fusenotify.cli.commands import COMMANDS, EXAMPLES, GROUPS

    program, parsers = configured_parsers()
    overview = nodes.section()
    overview += nodes.title("", "COMMANDS")
    for group, heading in GROUPS.items():
        overview += _section(
            heading,
            _definitions(
                (f"fusenotify-{name}(1)", command.summary)
                for name, command in COMMANDS.items()
                if command.group == group
            ),
        )
    names = [f"fusenotify-{name}(1)" for name in COMMANDS]
    sections = [overview, *_end(EXAMPLES, _STATUS, [*names, "inotify(7)"])]
    summary = str(program.description).rstrip(".")
    pages = {"fusenotify": _page("fusenotify", summary, version, program, sections)}
    for name, command in COMMANDS.items():
        title = f"fusenotify-{name}"
        see_also = ["fusenotify(1)", *_SEE_ALSO_OF.get(name, ["inotify(7)"])]
        end = _end(command.examples, _STATUS_OF.get(name, _STATUS), see_also)
        pages[title] = _page(title, command.summary, version, parsers[name], end)
    return {f"share/man/man1/{title}.1": text for title, text in pages.items()}


def _page(
    title: str,
    summary: str,
    version: str,
    parser: ArgumentParser,
    end: Iterable[nodes.Node],
) -> str:
    """Return the source of a page: what a parser tells, and the sections at the end."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    page = utils.new_document(title)
    page += nodes.title("", title)
    page += nodes.subtitle("", summary)
    page += nodes.docinfo(
        "",
        nodes.date("", time.strftime("%Y-%m-%d", time.gmtime(seconds))),
        nodes.version("", f"fusenotify {version}"),
        _field("manual_section", "1"),
        _field("manual_group", "fusenotify"),
    )
    page += _section("SYNOPSIS", _usage(parser))
    page += _section("DESCRIPTION", nodes.paragraph("", parser.description or ""))
    for heading, content in _arguments(parser):
        page += _section(heading, content)
    for name, below in _subcommands(parser):
        page += _section(
            name.upper(),
            nodes.paragraph("", f"{_capital(str(below.description))}."),
            _usage(below),
            *(content for _, content in _arguments(below)),
        )
    # Behind the notes configure() has put the examples.
    notes = (parser.epilog or "").partition("examples:")[0].split()
    if notes:
        page += _section("NOTES", nodes.paragraph("", " ".join(notes)))
    page += list(end)
    settings = {"output_encoding": "unicode", "report_level": 2}
    text = str(core.publish_from_doctree(page, writer="manpage", settings_overrides=settings))
    # What docutils writes and mandoc -Tlint finds fault with.
    return re.sub(r"^(\.S[HS] .*)\n\.sp$", r"\1", text, flags=re.M).replace(".SH Name", ".SH NAME")


def _end(examples: Iterable[str], status: str, see_also: Iterable[str]) -> list[nodes.Node]:
    """Return the sections with which every page ends."""
    lines = "\n".join(f"$ {line}" for line in examples)
    return [
        _section("EXAMPLES", nodes.literal_block(lines, lines)),
        _section("EXIT STATUS", nodes.paragraph("", status)),
        _section("SEE ALSO", nodes.paragraph("", ", ".join(see_also))),
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _usage(parser: ArgumentParser) -> nodes.Node:
    usage = " ".join(parser.format_usage().split()).removeprefix(f"usage: {parser.prog}")
    return nodes.paragraph("", "", nodes.strong("", parser.prog), nodes.Text(usage))


def _arguments(parser: ArgumentParser) -> Iterator[tuple[str, nodes.Node]]:
    """Yield what has a place, and each group of options, with a heading."""
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.help != SUPPRESS]
        placed = [
            (str(action.metavar or action.dest), _help(parser, action))
            for action in shown
            if not (action.option_strings or isinstance(action, _SubParsersAction))
        ]
        if placed:
            yield "ARGUMENTS", _definitions(placed)
        options = [_option(parser, action) for action in shown if action.option_strings]
        if options:
            yield str(group.title).upper(), nodes.option_list("", *options)


def _subcommands(parser: ArgumentParser) -> Iterator[tuple[str, ArgumentParser]]:
    """Yield those of a command; the commands of fusenotify itself have pages of their own."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction) and parser.prog != "fusenotify":
            yield from action.choices.items()


def _option(parser: ArgumentParser, action: Action) -> nodes.Node:
    group = nodes.option_group()
    for word in action.option_strings:
        option = nodes.option("", nodes.option_string("", word))
        if action.nargs != 0:
            choices = "|".join(map(str, action.choices or ()))
            option += nodes.option_argument(
                "", str(action.metavar or choices or action.dest.upper()), delimiter=" "
            )
        group += option
    help_ = nodes.description("", nodes.paragraph("", _help(parser, action)))
    return nodes.option_list_item("", group, help_)


def _help(parser: ArgumentParser, action: Action) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


def _definitions(entries: Iterable[tuple[str, str]]) -> nodes.Node:
    return nodes.definition_list(
        "",
        *(
            nodes.definition_list_item(
                "", nodes.term("", word), nodes.definition("", nodes.paragraph("", text))
            )
            for word, text in entries
        ),
    )


def _section(heading: str, *content: nodes.Node) -> nodes.Node:
    return nodes.section("", nodes.title("", heading), *content)


def _field(name: str, text: str) -> nodes.Node:
    return nodes.field(
        "", nodes.field_name("", name), nodes.field_body("", nodes.paragraph("", text))
    )
