# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of a mount: each option that is declared here is also a word of ``-o``.

cli.mount declares them for its command, cli.words makes words from them.
``--max-queued-events 64`` is ``-o max_queued_events=64``, ``--exclusive`` is ``-o exclusive``; so
every setting can be used in fstab.  Options about the command and not the mount (-f) are
declared in cli.mount, and are not words.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
from dataclasses import asdict

from fusenotify import heard
from fusenotify.admission import Admission, Quotas
from fusenotify.bits import IN_ALL_EVENTS, names
from fusenotify.cli import log_options
from fusenotify.cli.counts import LIMITS, QUOTAS, add_options, count
from fusenotify.masks import plain
from fusenotify.mounting.mountpoints import resolve, resolve_source
from fusenotify.mounting.options import MS_NOSYMFOLLOW, flags_of, value_of
from fusenotify.mounting.settings import (
    ACCESSES,
    CHANGES,
    LINUX_6,
    POLL_MICROSECONDS,
    SEMANTICS,
    Bounds,
    JournalSettings,
    Limits,
    Settings,
)
from fusenotify.view import DEFAULT_SECONDS, EXCLUSIVE_SECONDS, View

# A year.  The kernel's arithmetic overflows somewhere above that.
_MAX_SECONDS = 31_536_000.0
_DEFAULTS = asdict(Limits()) | asdict(Quotas())


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="where clients connect (a file in /run/fusenotify for root, for others in "
        "$XDG_RUNTIME_DIR/fusenotify)",
    )
    parser.add_argument(
        "--socket-mode",
        metavar="MODE",
        type=_mode,
        help="the socket's permissions, octal; users who may write to it may connect (600; 666 "
        "with -o allow_other, --allow-user or --allow-group)",
    )
    for kind, number in (("user", _user), ("group", _group)):
        parser.add_argument(
            f"--allow-{kind}",
            metavar=kind.upper(),
            type=number,
            action="append",
            default=[],
            help=f"a {kind}, by name or number, that may connect; others may not, except root and "
            "the daemon's user; may be repeated",
        )
    parser.add_argument(
        "--semantics",
        choices=sorted(SEMANTICS),
        default=LINUX_6.name,
        help="the Linux version whose inotify to imitate (%(default)s)",
    )
    parser.add_argument(
        "--access",
        choices=ACCESSES,
        default=ACCESSES[0],
        help="open: report reads at least once per open file, as far as the kernel's cache lets "
        "them through; exact: report each read, by bypassing the cache; files opened only for "
        "reading cannot be mapped shared then (%(default)s)",
    )
    parser.add_argument(
        "--poll",
        metavar="MICROSECONDS",
        type=count,
        default=POLL_MICROSECONDS,
        help="how long to look for the next request of a busy stream before sleeping; 0 sleeps "
        "at once (%(default)s)",
    )
    for what, timeout in (
        ("an object's attributes", "--attr-timeout"),
        ("a name", "--entry-timeout"),
    ):
        parser.add_argument(
            timeout,
            metavar="SECONDS",
            type=_seconds,
            help=f"how long the kernel may remember {what}; changes made directly in SOURCE stay "
            f"unseen for so long ({DEFAULT_SECONDS:g}; {EXCLUSIVE_SECONDS:g} with --exclusive)",
        )
    parser.add_argument(
        "--exclusive",
        action="store_true",
        help="only this mount changes SOURCE, so the kernel may remember names and attributes for "
        "long, and also that a name does not exist",
    )
    parser.add_argument(
        "--behind",
        choices=heard.KINDS,
        default=heard.OFF,
        help="report changes made directly to SOURCE, behind the mount: to watched objects, or "
        "(root only) to all, where the kernel remembers as long as with --exclusive (%(default)s)",
    )
    add_options(parser, LIMITS | QUOTAS, _DEFAULTS)
    parser.add_argument(
        "--journal",
        metavar="FILE",
        nargs="?",
        const="",
        help="keep a journal of changes, for 'fusenotify since', in FILE; without FILE, in a file "
        "in /var/lib/fusenotify for root, for others in $XDG_STATE_HOME/fusenotify or "
        "~/.local/state/fusenotify",
    )
    parser.add_argument(
        "--journal-size",
        metavar="BYTES",
        type=_size,
        default=Bounds().size,
        help="about how many bytes the journal may take, such as 64K, 10M or 1G (256M)",
    )
    parser.add_argument(
        "--journal-age",
        metavar="TIME",
        type=_age,
        default=Bounds().age,
        help="how long changes are kept: a number of seconds, or of minutes, hours or days with m, "
        "h or d after it; 'any' has no limit (30d)",
    )
    parser.add_argument(
        "--journal-events",
        metavar="EVENTS",
        type=_events,
        default=CHANGES,
        help="the events that the journal keeps, separated by commas "
        f"({','.join(names(CHANGES)).lower()})",
    )
    parser.add_argument(
        "--journal-sync",
        action="store_true",
        help="write each batch of the journal to the disk, so that it survives a power failure",
    )
    parser.add_argument(
        "--faults",
        action="store_true",
        help="for tests: let root and the daemon's user cause faults ('fusenotify fault')",
    )
    log_options.declare(parser)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the arguments of ``fusenotify mount`` ask for."""
    source = resolve_source(arguments.source)
    mountpoint = resolve(arguments.mountpoint or arguments.source)
    return Settings(
        source=source,
        mountpoint=mountpoint,
        wanted_socket=arguments.socket and os.path.abspath(arguments.socket),
        options=tuple(dict.fromkeys(option for option in arguments.options if option)),
        semantics=arguments.semantics,
        access=arguments.access,
        poll=arguments.poll,
        limits=Limits(
            max_queued_events=arguments.max_queued_events,
            max_user_instances=arguments.max_user_instances,
            max_user_watches=arguments.max_user_watches,
            max_user_trees=arguments.max_user_trees,
        ),
        quotas=Quotas(
            max_user_connections=arguments.max_user_connections,
            max_waiting_requests=arguments.max_waiting_requests,
        ),
        admission=Admission(
            users=frozenset(arguments.allow_user), groups=frozenset(arguments.allow_group)
        ),
        wanted_socket_mode=arguments.socket_mode,
        view=_view(arguments, lasting=arguments.exclusive or arguments.behind == heard.ALL),
        behind=arguments.behind,
        view_alone=_view(arguments, lasting=arguments.exclusive),
        faults=arguments.faults,
        journal=_journal(arguments),
        activity=arguments.activity,
        log_level=log_options.level_of(arguments),
        log_file=arguments.log_file and os.path.abspath(arguments.log_file),
    )


def _journal(arguments: argparse.Namespace) -> JournalSettings | None:
    if arguments.journal is None:
        return None
    return JournalSettings(
        path=os.path.abspath(arguments.journal) if arguments.journal else None,
        bounds=Bounds(arguments.journal_size, arguments.journal_age),
        events=arguments.journal_events,
        synced=arguments.journal_sync,
    )


def _view(arguments: argparse.Namespace, *, lasting: bool) -> View:
    """Return how SOURCE is shown; if lasting, the kernel remembers names and data for a day."""
    seconds = EXCLUSIVE_SECONDS if lasting else DEFAULT_SECONDS
    umask = value_of(arguments.options, "umask")
    return View(
        attr_timeout=seconds if arguments.attr_timeout is None else arguments.attr_timeout,
        entry_timeout=seconds if arguments.entry_timeout is None else arguments.entry_timeout,
        absent_timeout=seconds if lasting else 0.0,
        keeps_data=lasting,
        uid=value_of(arguments.options, "uid"),
        gid=value_of(arguments.options, "gid"),
        permissions=None if umask is None else 0o777 & ~umask,
        acl="acl" in arguments.options,
        follows_links=not flags_of(arguments.options) & MS_NOSYMFOLLOW,
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a number of seconds between 0 and {_MAX_SECONDS:g}"
        )
    return seconds


def _size(text: str) -> int:
    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    found = re.fullmatch(r"([1-9][0-9]{0,12})([KMG]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of bytes such as 64M")
    return int(found[1]) * units[found[2]]


def _age(text: str) -> float | None:
    if text == "any":
        return None
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 12h or 30d, or 'any'")
    return float(int(found[1]) * units[found[2]])


def _events(text: str) -> int:
    try:
        mask = plain(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not mask or mask & ~IN_ALL_EVENTS:
        raise argparse.ArgumentTypeError(f"'{text}' has other words than events")
    return mask


def _mode(text: str) -> int:
    if not (0 < len(text) <= 4 and set(text) <= set("01234567")) or int(text, 8) > 0o777:
        raise argparse.ArgumentTypeError(f"'{text}' is not a mode such as 660")
    return int(text, 8)


def _user(text: str) -> int:
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user '{text}'") from None


def _group(text: str) -> int:
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no group '{text}'") from None
