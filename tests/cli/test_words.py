# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``fusenotify mount`` has as an option is a word of -o, too, and the same."""

from __future__ import annotations

import argparse
import re
from itertools import pairwise

import pytest

from fusenotify.cli import main, mount
from fusenotify.cli.mount_settings import settings_of
from fusenotify.cli.words import Settings, split
from fusenotify.mounting.options import KNOWN_OPTIONS
from tests.cli.command import fusenotify

# About the command, and not about the mount.
NO_WORDS = {"--help", "--foreground"}


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    mount.configure(parser)
    return parser.parse_args([*argv, "--", "/source", "/mnt"])


def options() -> list[str]:
    """Return the long options that the command's help shows."""
    parser = argparse.ArgumentParser(prog="mount", allow_abbrev=False)
    mount.configure(parser)
    words = parser.format_usage().replace("[", " ").replace("]", " ").split()
    words[words.index("-v")] = "--verbose"
    return [word for word in words if word.startswith("--") and word not in NO_WORDS]


def test_each_option_is_a_word_and_no_other() -> None:
    words = {"--" + name.rstrip("=").replace("_", "-") for name in Settings().names()}
    assert words == set(options())
    assert not set(Settings().names()) & KNOWN_OPTIONS


EXAMPLES = [
    "--socket=/run/x/a.sock",
    "--socket-mode=640",
    "--allow-user=0",
    "--allow-group=root",
    "--semantics=linux-2.6.18",
    "--access=exact",
    "--poll=0",
    "--attr-timeout=0.5",
    "--entry-timeout=3",
    "--exclusive",
    "--behind=all",
    "--max-queued-events=64",
    "--max-user-watches=65",
    "--max-user-trees=66",
    "--max-user-instances=67",
    "--max-user-connections=68",
    "--max-waiting-requests=69",
    "--faults",
    "--verbose",
    "--debug",
    "--log-file=/x/log",
    "--journal=/x/journal",
    "--journal-size=70M",
    "--journal-age=71d",
    "--journal-events=create",
    "--journal-sync",
]


def as_word(option: str) -> str:
    name, equals, value = option.removeprefix("--").partition("=")
    return name.replace("-", "_") + equals + value


def test_there_is_an_example_of_each() -> None:
    assert {example.partition("=")[0] for example in EXAMPLES} == set(options())


@pytest.mark.parametrize("option", EXAMPLES)
def test_a_word_does_what_its_option_does(option: str) -> None:
    others = "ro,acl,journal" if option.startswith("--journal-") else "ro,acl"
    by_word = settings_of(parsed("-o", f"{as_word(option)},{others}"))
    assert by_word == settings_of(parsed("-o", others, option))
    assert by_word != settings_of(parsed("-o", others))


def test_a_word_may_have_a_value_or_none_where_its_option_may() -> None:
    for word, option in (("journal", "--journal"), ("journal=/j", "--journal=/j")):
        assert settings_of(parsed("-o", word)) == settings_of(parsed(option))
    assert settings_of(parsed("-o", "journal")) != settings_of(parsed("-o", "journal=/j"))
    assert Settings().meanings()["journal[=FILE]"]


def test_of_contrary_words_and_options_the_last_counts() -> None:
    assert settings_of(parsed("-o", "poll=1,poll=2")).poll == 2
    assert settings_of(parsed("--poll=3", "-o", "poll=2")).poll == 2
    assert settings_of(parsed("-o", "poll=2", "--poll=3")).poll == 3
    users = settings_of(parsed("-o", "allow_user=7,allow_user=8", "--allow-user=9")).admission
    assert users.users == {7, 8, 9}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("ro,,acl,", ["ro", "acl"], id="empty words"),
        pytest.param('socket="/a,b",ro', ["socket=/a,b", "ro"], id="a comma in quotation marks"),
        pytest.param(r"socket=/a\,b,ro", ["socket=/a,b", "ro"], id="a comma behind a backslash"),
        pytest.param(r"socket=/a\\,ro", ["socket=/a\\", "ro"], id="a backslash at the end"),
        pytest.param(r"socket=/a\b,ro", ["socket=/a\\b", "ro"], id="a backslash before a letter"),
        pytest.param('socket=/a"b,ro', ['socket=/a"b', "ro"], id="a quotation mark in a value"),
        pytest.param('socket="/a"b",ro', ['socket=/a"b', "ro"], id="one within quotation marks"),
        pytest.param('x-y="a,b"', ["x-y=a,b"], id="a word of others"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_words_are_split_at_commas(text: str, words: list[str]) -> None:
    assert split(text) == words


LIST = "'fusenotify mount -o help' lists all options"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("frob", f"unknown option 'frob'; {LIST}"),
        ("ro,max_frob=3", f"unknown option 'max_frob=3'; {LIST}"),
        (
            "max_queued_event=5",
            f"unknown option 'max_queued_event=5'; did you mean 'max_queued_events='? {LIST}",
        ),
        (
            "max-queued-events=5",
            f"unknown option 'max-queued-events=5'; did you mean 'max_queued_events='? {LIST}",
        ),
        ("nosuid,alow_other", f"unknown option 'alow_other'; did you mean 'allow_other'? {LIST}"),
        ("context", f"unknown option 'context'; did you mean 'context='? {LIST}"),
        ("ro=1", f"unknown option 'ro=1'; did you mean 'ro'? {LIST}"),
        ("foreground", f"unknown option 'foreground'; {LIST}"),
        ("poll", "'poll': a value is missing, as in poll=MICROSECONDS"),
        ("poll=", "'poll=': '' is not a whole number of 0 or more"),
        ("poll=-1", "'poll=-1': '-1' is not a whole number of 0 or more"),
        ("exclusive=yes", "'exclusive=yes': it takes no value"),
        ("exclusive=", "'exclusive=': it takes no value"),
        (
            "allow_user=nobody-at-all",
            "'allow_user=nobody-at-all': there is no user 'nobody-at-all'",
        ),
        ('socket="/a,b', "'socket=/a,b': the second quotation mark is missing"),
        ("uid=me", "'uid=me': not a whole number"),
    ],
)
def test_a_word_that_cannot_be_is_named(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["mount", "-o", words, "a", "b"])
    said = capsys.readouterr().err
    assert said.endswith(f"fusenotify mount: error: argument -o: {message}\n")
    # And mount(8) says it in a line.
    assert main(["mount.fusenotify", "a", "b", "-o", words]) == 32
    assert capsys.readouterr().err == f"fusenotify: {message}\n"


def test_a_choice_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mount.fusenotify", "a", "b", "-o", "semantics=linux-5"]) == 32
    said = capsys.readouterr().err
    assert said.startswith("fusenotify: 'semantics=linux-5': invalid choice: 'linux-5'")
    assert said.count("\n") == 1


def test_help_is_a_word_that_lists_all_with_a_sentence_each() -> None:
    done = fusenotify("mount", "-o", "ro,help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    shown = set()
    for line, following in pairwise([*lines, ""]):
        if line.startswith("  ") and not line.startswith("   "):
            word, *sentence = line.split()
            shown.add(re.split(r"[\[=]", word)[0])
            assert sentence or following.startswith("    "), line
    assert shown == {name.rstrip("=") for name in [*KNOWN_OPTIONS, *Settings().names()]} | {"x-*,"}
    assert max(map(len, lines)) <= 100
    assert "%" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param([], "usage: mount.fusenotify SOURCE MNT", id="nothing"),
        pytest.param(["a"], "usage: mount.fusenotify SOURCE MNT", id="no MNT"),
        pytest.param(["a", "b", "c"], "usage: mount.fusenotify SOURCE MNT", id="three places"),
        pytest.param(["a", "b", "-q"], "option -q not recognized", id="an option"),
        pytest.param(["a", "b", "-t", "fuse.sshfs"], "-t fuse.sshfs: the type is", id="a type"),
        pytest.param(["a", "b", "-N", "/proc/1/ns/mnt"], "nsenter --mount=", id="a namespace"),
    ],
)
def test_a_wrong_call_of_the_helper_is_status_1_as_of_mount8(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mount.fusenotify", *arguments]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
