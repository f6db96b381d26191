# SPDX-License-Identifier: GPL-2.0-or-later
"""What the programs work on: generated, the same in every run, made natively.

C sources and wheels are those of the benchmark (tests.bench.material); a
repository with a history and an archive of all that tar knows are added.
"""

from __future__ import annotations

import os
import random
import stat
import struct
import subprocess
from pathlib import Path

from tests.bench import material

_OLD = 1_000_000_000_123_456_789  # nanoseconds: in 2001
_DIRECTORIES = 40


def make(directory: Path, files: int) -> None:
    """Write history.git, everything/, everything.tar, c/ and wheels/ into an empty directory.

    files is how many the repository's first commit has.
    """
    material.make(directory)
    _write_history(directory / "history.git", files)
    _write_everything(directory / "everything", files // 10)
    subprocess.run(
        ["tar", "--create", "--format=posix", "--sparse", "--xattrs", "--xattrs-include=*"]
        + ["--acls", "--file=everything.tar", "everything"],
        cwd=directory,
        check=True,
    )


def _write_history(repository: Path, files: int) -> None:
    """Make a bare repository: a commit of files, one that changes a tenth, one that moves some."""
    chance = random.Random(2)
    script = []

    def commit(number: int, changes: list[bytes]) -> None:
        message = b"commit %d\n" % number
        who = b"committer Nobody <nobody@example.org> %d +0000\n" % (1_700_000_000 + number)
        start = b"commit refs/heads/main\n" + who + b"data %d\n%s" % (len(message), message)
        script.append(start + b"".join(changes))

    def content(name: bytes) -> bytes:
        kind = b"120000" if name.endswith(b"7") else b"100755" if name.endswith(b"3") else b"100644"
        text = b"target-%d" % chance.randrange(10)
        if kind != b"120000":
            text = chance.randbytes(chance.randrange(50, 1500)).hex().encode() + b"\n"
        return b"M %s inline %s\ndata %d\n%s\n" % (kind, name, len(text), text)

    names = [b"d%02d/e%d/file-%d" % (n % _DIRECTORIES, n % 3, n) for n in range(files)]
    commit(1, [content(name) for name in names])
    commit(2, [content(name) for name in names[::10]])
    commit(3, [b"R %s moved/%d\n" % (name, n) for n, name in enumerate(names[5::20])])
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], check=True)
    subprocess.run(
        ["git", "fast-import", "--quiet"], cwd=repository, input=b"".join(script), check=True
    )


def _write_everything(top: Path, files: int) -> None:
    """Make a tree with one of each that an archive may hold, and plain files besides."""
    top.mkdir()
    long = top / ("long-" + "n" * 200)
    deep = top.joinpath(*["deep-" + "d" * 60] * 6)
    for directory in (long, deep, top / "plain", top / "acl"):
        directory.mkdir(parents=True)
    for number in range(files):
        path = top / "plain" / f"file-{number}"
        path.write_bytes(b"%d\n" % number * number)
        os.chown(path, number % 7 * 1000, number % 5 * 1000)
        path.chmod((0o600, 0o644, 0o755, 0o4755, 0o2755, 0o444, 0)[number % 7])
    (long / ("f" * 250)).write_text("a long name")
    (deep / "f").write_text("a long path")
    (top / "name with\nnewline and \udcff").write_text("odd")
    for name in ("a", "plain/b", "long"):
        os.link(top / "plain" / "file-1", top / f"hard-{name.replace('/', '-')}")
    for target in ("a", "nowhere/at/all", "../" * 40 + "x" * 300):
        (top / f"symlink-{len(target)}").symlink_to(target)
    with open(top / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(3 << 20)
        file.write(b"middle")
        file.truncate(8 << 20)
    os.mkfifo(top / "fifo", 0o640)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for key, value in (("user.plain", b"value"), ("user.binary", bytes(range(200)))):
        os.setxattr(top / "plain" / "file-1", key, value)
    os.setxattr(top / "plain", "user.directory", b"")
    os.setxattr(top / "sparse", "trusted.kept", b"by root")
    _set_acls(top / "acl")
    (top / "sticky").mkdir()
    (top / "sticky").chmod(0o1777)
    (top / "setgid").mkdir()
    os.chown(top / "setgid", 1000, 2000)
    (top / "setgid").chmod(0o2775)
    _make_old(top)


def _set_acls(directory: Path) -> None:
    nobody = 0xFFFFFFFF
    entries = ((1, 6, nobody), (2, 4, 1234), (4, 4, nobody), (16, 6, nobody), (32, 0, nobody))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    (directory / "file").write_text("shared")
    os.setxattr(directory / "file", "system.posix_acl_access", acl)
    os.setxattr(directory, "system.posix_acl_default", acl)


def _make_old(top: Path) -> None:
    """Give everything a time long ago, directories after their entries."""
    for directory, below, files in os.walk(top, topdown=False):
        for number, name in enumerate(sorted(below + files)):
            when = _OLD + number * 1_000_000_007
            path = os.path.join(directory, name)
            os.utime(path, ns=(when, when), follow_symlinks=False)
    os.utime(top, ns=(_OLD, _OLD))
