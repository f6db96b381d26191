# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of commands, with their groups, summaries and examples; similar names.

cli.__init__ makes a parser for each; a command that is not listed here cannot be run.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command.  group is a heading of the help, and examples are whole command lines."""

    group: str
    summary: str
    examples: tuple[str, ...]


MOUNT, LOOK, MANY, CHANGE, TEST, SHELL = "mount", "look", "many", "change", "test", "shell"
GROUPS = {
    MOUNT: "Mount and unmount",
    LOOK: "Look at what happens",
    MANY: "Follow many machines",
    CHANGE: "Change a mount",
    TEST: "Test a watcher",
    SHELL: "Set up your shell",
}

COMMANDS = {
    "mount": Command(
        MOUNT,
        "show a directory through an observable mount",
        (
            "fusenotify mount SOURCE MNT",
            "fusenotify mount DIR -o allow_other --max-queued-events 64",
        ),
    ),
    "unmount": Command(
        MOUNT,
        "unmount a mount and wait for its daemon to end; 'umount' is the same",
        ("fusenotify unmount MNT", "fusenotify unmount --lazy MNT"),
    ),
    "clean": Command(
        MOUNT,
        "unmount the mounts whose daemons are gone",
        ("fusenotify clean", "fusenotify clean --dry-run MNT"),
    ),
    "wait": Command(
        LOOK,
        "print the events of files and directories, as inotifywait does",
        ("fusenotify wait -m -r MNT", "fusenotify wait -t 10 -e create,moved_to MNT/inbox"),
    ),
    "watch": Command(
        LOOK,
        "count the events of files and directories, as inotifywatch does",
        ("fusenotify watch -r -t 60 MNT",),
    ),
    "top": Command(
        LOOK,
        "show live what happens, where, by whom, and who watches",
        ("fusenotify top MNT", "fusenotify top --once MNT", "fusenotify top --json -d 10 MNT"),
    ),
    "status": Command(
        LOOK,
        "show mounts, their clients, watches and queues",
        ("fusenotify status", "fusenotify status --json MNT"),
    ),
    "cursor": Command(
        LOOK,
        "print a cursor: the present place in a mount's journal",
        ("fusenotify cursor MNT",),
    ),
    "since": Command(
        LOOK,
        "print what happened since a cursor, on a mount made with --journal",
        (
            "fusenotify since CURSOR MNT --changes",
            "fusenotify since --cursor-file ~/.seen MNT/docs",
            "fusenotify since CURSOR MNT --follow --json",
        ),
    ),
    "publish": Command(
        MANY,
        "put a mount's journal into a NATS JetStream stream",
        ("fusenotify publish MNT --to nats://HOST:4222",),
    ),
    "subscribe": Command(
        MANY,
        "print what many mounts put there",
        (
            "fusenotify subscribe --from nats://HOST:4222",
            "fusenotify subscribe --from nats://HOST 'fusenotify.web1.>' --durable backup --json",
        ),
    ),
    "notify": Command(
        CHANGE,
        "say what was changed in SOURCE, if no kernel tells",
        ("fusenotify notify MNT/docs/report.txt", "fusenotify notify -e delete MNT/old"),
    ),
    "limits": Command(
        CHANGE,
        "show a mount's limits, or set some",
        ("fusenotify limits MNT", "fusenotify limits MNT --max-user-watches 100000"),
    ),
    "run": Command(
        TEST,
        "run any program with the inotify of the mounts that it watches",
        (
            "fusenotify run --mount . --max-queued-events 4 -- npm run dev",
            "fusenotify run --log -- tail -F MNT/messages",
        ),
    ),
    "fault": Command(
        TEST,
        "cause a fault, for a test, on a mount made with --faults",
        ("fusenotify fault MNT overflow", "fusenotify fault MNT lose 3 --mask CREATE"),
    ),
    "completion": Command(
        SHELL,
        "print what makes bash, zsh or fish complete fusenotify's command line",
        ("fusenotify completion bash", "fusenotify completion fish"),
    ),
}
# Other names of commands, which are accepted but not shown.
ALIASES = {"umount": "unmount"}

EXAMPLES = (
    "fusenotify mount SOURCE MNT",
    "fusenotify wait -m -r MNT",
    "fusenotify status",
    "fusenotify unmount MNT",
)


def overview() -> str:
    """Return the commands in their groups, a line each."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        f"{heading}:\n"
        + "".join(
            f"  {name:<{width}}  {command.summary}\n"
            for name, command in COMMANDS.items()
            if command.group == group
        )
        for group, heading in GROUPS.items()
    )


def examples(lines: tuple[str, ...]) -> str:
    """Return command lines as a section of a help."""
    return "examples:\n" + "".join(f"  {line}\n" for line in lines)


def unknown(name: str) -> str:
    """Return the message for a command that does not exist."""
    similar = difflib.get_close_matches(name, [*COMMANDS, *ALIASES], n=1)
    hint = f"did you mean '{similar[0]}'?" if similar else "'fusenotify --help' lists the commands"
    return f"there is no command {name!a}; {hint}"
