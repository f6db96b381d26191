# SPDX-License-Identifier: GPL-2.0-or-later
"""mount(8) and umount(8) do what ``fusenotify mount`` and ``unmount`` do, fstab included."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import FUSENOTIFY, environment
from tests.conftest import REPOSITORY, User, modules

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts by mount(8)"),
    pytest.mark.skipif(
        shutil.which("mount.fuse3", path=f"{os.environ['PATH']}:/sbin:/usr/sbin") is None,
        reason="mount.fuse3 is missing: install the Debian package fuse3",
    ),
]

# mount(8) looks for programs in the system's directories only, and for lines in /etc/fstab: they
# are covered in a mount namespace of the script's own.
_WITH_FUSENOTIFY = """
mount -t tmpfs none "$1/over" && mount --bind "$1/bin" /usr/local/sbin || exit
for directory in /etc "$(realpath /sbin)"; do
    upper=$1/over/$(basename "$directory")
    mkdir "$upper" "$upper.work"
    mount -t overlay -o "lowerdir=$directory,upperdir=$upper,workdir=$upper.work" none "$directory"
done
cp "$1/fstab" /etc/fstab 2>/dev/null || :
eval "$2"
"""
_INSTALL = f"{shlex.quote(str(REPOSITORY))}/mount-scripts/install --prefix {{}}/prefix"
_INSTALL = f"{_INSTALL} --program {{}}/bin/fusenotify >/dev/null"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A source with a file, a mount point, and a directory with the program."""
    for name in ("source", "mnt", "bin", "over"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "file").write_text("content\n")
    program = tmp_path / "bin" / "fusenotify"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(FUSENOTIFY)} "$@"\n')
    program.chmod(0o755)
    return tmp_path


def script(
    place: Path, text: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a place; {} in it is the place."""
    namespace = ["unshare", "--mount", "sh", "-ec", _WITH_FUSENOTIFY, "sh", str(place)]
    return subprocess.run(
        [*namespace, text.replace("{}", str(place))],
        env=environment() if env is None else env,
        cwd="/",
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
        check=False,
    )


_LOOK = "cat {}/mnt/file; findmnt -n -o SOURCE,FSTYPE,OPTIONS {}/mnt; umount {}/mnt; ls {}/mnt"


def test_mount_by_type(place: Path) -> None:
    done = script(place, f"mount -t fuse.fusenotify {{}}/source {{}}/mnt; {_LOOK}")
    assert done.stderr == ""
    content, source, fstype, options = done.stdout.split()
    assert (content, source) == ("content", str(place / "source"))
    assert fstype == "fuse.fusenotify"
    assert {"rw", "default_permissions"} <= set(options.split(","))


def test_a_line_of_fstab(place: Path) -> None:
    words = "ro,noauto,nofail,user,_netdev,x-systemd.automount,comment=ours,allow_other"
    (place / "fstab").write_text(f"{place}/source {place}/mnt fuse.fusenotify {words} 0 0\n")
    done = script(place, f"mount --fstab {{}}/fstab {{}}/mnt; {_LOOK}")
    assert done.stderr == ""
    options = set(done.stdout.split()[3].split(","))
    assert {"ro", "nosuid", "nodev", "noexec", "allow_other"} <= options


def test_a_remount_by_mount8(place: Path) -> None:
    done = script(
        place,
        "mount -t fuse.fusenotify {}/source {}/mnt -o noexec,nosuid,strictatime; cd {}/mnt; "
        "mount -o remount,ro {}/mnt; findmnt -n -o OPTIONS {}/mnt; touch x 2>/dev/null || echo no; "
        "mount -o remount,rw,exec {}/mnt; findmnt -n -o OPTIONS {}/mnt; touch x && echo yes; "
        "cd /; umount {}/mnt",
    )
    assert done.stderr == ""
    fuse = "user_id=0,group_id=0,default_permissions"
    before, no, after, yes = done.stdout.split()
    assert before == f"ro,nosuid,noexec,{fuse}"
    assert after == f"rw,nosuid,{fuse}"
    assert (no, yes) == ("no", "yes")


def test_words_of_fstab_for_every_filesystem(place: Path) -> None:
    words = "nodiratime,lazytime,iversion,silent,nosymfollow,dirsync,users"
    (place / "fstab").write_text(f"{place}/source {place}/mnt fuse.fusenotify {words} 0 0\n")
    done = script(place, f"mount --fstab {{}}/fstab {{}}/mnt; {_LOOK}")
    assert done.stderr == ""
    options = set(done.stdout.split()[3].split(","))
    expected = {"nosuid", "nodev", "noexec", "nodiratime", "lazytime", "nosymfollow", "dirsync"}
    assert expected <= options


def test_a_wrong_line_makes_mount_fail(place: Path) -> None:
    done = script(place, "mount -t fuse.fusenotify {}/gone {}/mnt")
    assert done.stderr == f"fusenotify: {place}/gone: SOURCE does not exist\n"
    assert done.returncode


# With the helper of mount-scripts/install, and with what fuse3 has.
WAYS = [
    pytest.param(_INSTALL, "fusenotify", id="mount.fusenotify"),
    pytest.param(_INSTALL, "fuse.fusenotify", id="mount.fuse.fusenotify"),
    pytest.param(":", "fuse.fusenotify", id="mount.fuse3"),
]


@pytest.mark.parametrize(("prepare", "fstype"), WAYS)
def test_fstab_says_everything_and_the_environment_nothing(
    prepare: str, fstype: str, place: Path
) -> None:
    words = (
        'max_queued_events=64,semantics=linux-2.6.18,socket="{}/a,b.sock",socket_mode=640,exclusive,'
        "allow_user=1,allow_user=2,defaults,noexec,nofail,_netdev,x-systemd.requires=/,X-a=b"
    )
    (place / "fstab").write_text(
        f"{{}}/source {{}}/mnt {fstype} {words} 0 0\n".format(*[place] * 3)
    )
    done = script(
        place,
        f"{prepare}; env -i mount -a; env -i mount -a; cat {{}}/mnt/file; "
        "stat -c %a {}/a,b.sock; "
        "findmnt -n -o SOURCE,FSTYPE,OPTIONS {}/mnt; {}/bin/fusenotify limits {}/mnt; "
        "{}/bin/fusenotify status {}/mnt | grep -o 'linux-[0-9.]*'; umount {}/mnt; ls {}/mnt",
    )
    assert done.stderr == ""
    content, mode, source, shown, options, *rest = done.stdout.split()
    assert (content, mode, source) == ("content", "640", str(place / "source"))
    assert shown == "fuse.fusenotify"
    assert options == "rw,noexec,relatime,user_id=0,group_id=0,default_permissions"
    assert rest[:2] == ["max_queued_events", "64"]
    assert rest[-1] == "linux-2.6.18"


@pytest.mark.parametrize(("prepare", "fstype"), WAYS)
def test_an_unknown_word_is_named_in_one_line_and_fails_as_on_a_disk(
    prepare: str, fstype: str, place: Path
) -> None:
    (place / "fstab").write_text(f"{place}/source {place}/mnt {fstype} ro,max_queud_events=3 0 0\n")
    done = script(
        place, f"{prepare}; mount {{}}/mnt || echo $?; mount -t tmpfs -o f n /mnt || echo $?"
    )
    message, other, *_ = done.stderr.splitlines()
    assert message == (
        "fusenotify: unknown option 'max_queud_events=3'; did you mean 'max_queued_events='? "
        "'fusenotify mount -o help' lists all options"
    )
    assert other.startswith("mount:")
    assert done.stdout.split() == ["32", "32"]


def test_sloppy_drops_unknown_words_and_fake_mounts_nothing(place: Path) -> None:
    places = "{}/source {}/mnt"
    done = script(
        place,
        f"{_INSTALL}; mount -s -n -t fusenotify -o frob,poll=0 {places}; cat {{}}/mnt/file; "
        f"umount {{}}/mnt; mount -f -v -t fusenotify -o ro {places}; "
        f"mount -f -t fusenotify -o frob {places} || echo $?; mountpoint -q {{}}/mnt || echo none",
    )
    assert "unknown option 'frob'" in done.stderr
    assert done.stdout.split()[0] == "content"
    assert done.stdout.split()[-2:] == ["32", "none"]


def test_a_failure_and_help_are_mount8s_failures(place: Path) -> None:
    done = script(
        place,
        f"{_INSTALL}; mount -t fusenotify {{}}/gone {{}}/mnt || echo $?; "
        "mount -t fusenotify -o help {}/source {}/mnt >{}/help || echo $?; "
        "rm {}/bin/fusenotify; mount -t fusenotify {}/source {}/mnt || echo $?",
    )
    assert done.stdout.split() == ["32", "1", "32"]
    gone, missing = done.stderr.splitlines()
    assert gone == f"fusenotify: {place}/gone: SOURCE does not exist"
    assert missing == (
        f"mount.fusenotify: {place}/bin/fusenotify cannot be run; install fusenotify, "
        "then run mount-scripts/install"
    )
    assert "max_queued_events=N" in (place / "help").read_text()


def test_a_source_that_may_be_missing_is_no_failure(place: Path) -> None:
    (place / "fstab").write_text(
        f"{place}/gone {place}/mnt fusenotify nofail 0 0\n"
        f"{place}/source/gone {place}/mnt fusenotify defaults 0 0\n"
    )
    done = script(
        place,
        f"{_INSTALL}; mount -a || echo $?; mount {{}}/gone || echo $?; "
        "mount {}/source/gone || echo $?; ls {}/mnt",
    )
    assert done.stderr == f"fusenotify: {place}/source/gone: SOURCE does not exist\n" * 2
    assert done.stdout.split() == ["64", "32"]


def test_it_mounts_where_no_standard_descriptor_is_open(place: Path) -> None:
    done = script(
        place, f"{_INSTALL}; mount -t fusenotify {{}}/source {{}}/mnt <&- >&- 2>&-; {_LOOK}"
    )
    assert done.stderr == ""
    assert done.stdout.split()[0] == "content"


def test_a_remount_keeps_what_fstab_says_and_changes_limits(place: Path) -> None:
    words = "max_queued_events=64,allow_user=3,access=exact,nosuid"
    (place / "fstab").write_text(f"{place}/source {place}/mnt fusenotify {words} 0 0\n")
    look = "findmnt -n -o OPTIONS {}/mnt; {}/bin/fusenotify limits {}/mnt | head -n 1"
    done = script(
        place,
        f"{_INSTALL}; mount {{}}/mnt; mount -o remount,ro {{}}/mnt; {look}; "
        f"mount -o remount,rw,max_queued_events=128 {{}}/mnt; {look}; "
        "mount -o remount,ro,access=open {}/mnt || echo $?; "
        f"mount -o remount,ro,allow_user=4 {{}}/mnt || echo $?; {look}; umount {{}}/mnt",
    )
    first, second = done.stderr.splitlines()
    for line, word in ((first, "access=open"), (second, "allow_user=4")):
        assert line == (
            f"fusenotify: {place}/mnt: '{word}' cannot be changed by a remount; unmount it first"
        )
    fuse = "user_id=0,group_id=0,default_permissions"
    lines = [" ".join(line.split()[:2]) for line in done.stdout.splitlines()]
    assert lines == [
        f"ro,nosuid,relatime,{fuse}",
        "max_queued_events 64",
        f"rw,nosuid,relatime,{fuse}",
        "max_queued_events 128",
        "32",
        "32",
        f"rw,nosuid,relatime,{fuse}",
        "max_queued_events 128",
    ]


NAMES = [b"so urce,\t#x", b"no t\xff\xc3\xbcxt", b"a\\b\"c'd$(e)`\nf", b"-o ro"]


@pytest.mark.parametrize(
    ("prepare", "fstype", "locale"),
    [
        pytest.param(_INSTALL, "fusenotify", "C", id="mount.fusenotify"),
        pytest.param(":", "fuse.fusenotify", "C.UTF-8", id="mount.fuse3"),
    ],
)
def test_any_name_can_be_in_fstab(prepare: str, fstype: str, locale: str, place: Path) -> None:
    lines = b""
    for name in NAMES:
        for directory in (b"source", b"mnt"):
            os.mkdir(os.path.join(os.fsencode(place), directory, name))
        escaped = b"".join(b"\\%03o" % c if c in b" \t\n\\#" else bytes([c]) for c in name)
        lines += b"%b/source/%b %b/mnt/%b %b nonempty 0 0\n" % (
            (os.fsencode(place), escaped) * 2 + (fstype.encode(),)
        )
    (place / "fstab").write_bytes(lines)
    (place / "source" / "file").unlink()
    done = script(
        place,
        f"{prepare}; export PATH=/usr/sbin:/usr/bin LC_ALL={locale}; mount -a; mount -a; "
        "findmnt --raw -n -t fuse.fusenotify -o SOURCE | grep -c {}; "
        'for name in {}/mnt/*; do mountpoint -q -- "$name"; umount -- "$name"; done',
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{len(NAMES)}\n")


@pytest.mark.parametrize("word", ["user", "users", "owner"])
def test_an_ordinary_user_mounts_a_line_of_fstab(
    word: str, public_path: Path, nobody: User
) -> None:
    place = public_path
    for name in ("source", "mnt", "run", "bin", "over"):
        (place / name).mkdir()
    for name in ("source", "mnt", "run"):
        os.chown(place / name, nobody.uid, nobody.uid)
    program = place / "bin" / "fusenotify"
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH={modules()['PYTHONPATH']}\nexport PYTHONPATH\n"
        f'exec {nobody.python} -m fusenotify "$@"\n'
    )
    program.chmod(0o755)
    words = f"noauto,{word},max_user_trees=5,socket={place}/run/socket"
    (place / "fstab").write_text(f"{place}/source {place}/mnt fusenotify {words} 0 0\n")
    user = shlex.join(nobody.as_user(["env", "-i", "PATH=/usr/bin:/bin"]))
    done = script(
        place,
        "mknod {}/over/fuse c 10 229; chmod 666 {}/over/fuse; mount --bind {}/over/fuse /dev/fuse; "
        f"{_INSTALL}; {user} mount {{}}/mnt; findmnt -n -o OPTIONS {{}}/mnt; "
        f"{user} {{}}/bin/fusenotify limits {{}}/mnt | grep trees; "
        f"{user} umount {{}}/mnt; ls {{}}/mnt",
    )
    assert done.stderr == ""
    options, _, trees, *_ = done.stdout.split()
    assert trees == "5"
    assert {f"user_id={nobody.uid}", "nosuid", "nodev"} <= set(options.split(","))
    assert ("noexec" in options) is (word != "owner")
