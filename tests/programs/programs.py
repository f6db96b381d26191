# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs: each works in an empty directory of its own, on tests.programs.material.

tests.programs.comparison runs each natively and through the mount.

Invariant
    What a program prints and leaves does not depend on when and where it runs,
        but for what its Program says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "1700000100 +0000",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_CACHE_DIR": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_SPECIAL = ("--exclude=null", "--exclude=fifo")  # what diff cannot compare with itself
_SQLITE = """
import random, sqlite3, sys
rows, chance = int(sys.argv[1]), random.Random(3)
database = sqlite3.connect("database", isolation_level=None)
print(*database.execute("PRAGMA journal_mode=WAL").fetchone())
database.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
database.execute("CREATE INDEX i ON t (v)")
reader = sqlite3.connect("database")
for start in range(0, rows, 100):
    database.execute("BEGIN")
    for key in range(start, start + 100):
        database.execute("INSERT INTO t VALUES (?, ?)", (key, chance.randbytes(40).hex()))
    database.execute("DELETE FROM t WHERE k % 7 = ?", (start // 100 % 7,))
    database.execute("ROLLBACK" if start % 500 == 400 else "COMMIT")
    print(*reader.execute("SELECT count(*), max(k) FROM t").fetchone())
print(*reader.execute("PRAGMA integrity_check").fetchone())
print(hash(tuple(map(hash, (key for key, _ in reader.execute("SELECT * FROM t"))))))
database.execute("VACUUM")
reader.close()
database.close()
print(*sqlite3.connect("database").execute("PRAGMA integrity_check").fetchone())
"""


class Place:
    """An empty directory, and the material; size is how many files or rows are many."""

    def __init__(self, top: Path, material: Path, size: int) -> None:
        self.top = top
        self.material = material
        self.size = size

    def run(self, *command: str | Path, at: str = ".") -> str:
        """Run a program that must succeed; return what it printed.  Raises CalledProcessError."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.top / at,
            env=os.environ | _ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode(errors="surrogateescape")


def _clone(place: Place) -> None:
    place.run("git", "clone", "--quiet", "--no-hardlinks", place.material / "history.git", "clone")


def git(place: Place) -> str:
    """Clone, look, go back and forth in the history, collect garbage, check."""
    _clone(place)
    said = [place.run("git", "status", "--porcelain", at="clone")]
    for commit in ("HEAD~2", "main"):
        place.run("git", "checkout", "--quiet", commit, at="clone")
        said.append(place.run("git", "status", "--porcelain", at="clone"))
    place.run("git", "-c", "pack.threads=1", "gc", "--quiet", "--prune=now", at="clone")
    for check in (
        ("git", "fsck", "--full", "--strict"),
        ("git", "status", "--porcelain"),
        ("git", "ls-files", "--stage"),
    ):
        said.append(place.run(*check, at="clone"))
    return "".join(said)


def tar(place: Place) -> str:
    """Unpack one of everything, with owners, modes, times, ACLs, attributes, holes, links."""
    place.run(
        *("tar", "--extract", "--preserve-permissions", "--same-owner", "--numeric-owner"),
        *("--xattrs", "--xattrs-include=*", "--acls", "--file", place.material / "everything.tar"),
    )
    compare = ("tar", "--compare", "--xattrs", "--acls", "--numeric-owner", "--file")
    return place.run(*compare, place.material / "everything.tar")


def cp(place: Place) -> str:
    """Copy one of everything in, and again inside."""
    place.run("cp", "-a", place.material / "everything", "copy")
    place.run("cp", "-a", "copy", "again")
    return place.run("diff", "-r", "--no-dereference", *_SPECIAL, "copy", "again")


def rsync(place: Place) -> str:
    """Copy one of everything in, then find nothing to be copied."""
    keep = ("rsync", "-aHAXS", "--itemize-changes")
    place.run(*keep, f"{place.material}/everything/", "copy")
    return place.run(*keep, f"{place.material}/everything/", "copy")


def make(place: Place) -> str:
    """Compile, link and run; again with nothing to do; again with one file changed."""
    shutil.copytree(place.material / "c", place.top / "c")
    place.run("make", "--silent", at="c")
    said = [place.run("./program", at="c"), place.run("make", "--question", at="c")]
    source = place.top / "c" / "f3.c"
    source.write_text(source.read_text().replace("+ 1", "+ 1000"))
    os.utime(source, (4e9, 4e9))  # later than its object, whatever the clock's ticks are
    made = place.run("make", at="c")
    return "".join([*said, made, place.run("./program", at="c")])


def pip(place: Place) -> str:
    """Install wheels into a directory and import what came."""
    wheels = sorted((place.material / "wheels").iterdir())
    pip = (sys.executable, "-m", "pip", "--quiet", "install", "--root-user-action=ignore")
    place.run(*pip, "--no-index", "--no-deps", "--no-compile", "--target", "site", *wheels)
    code = "import sys; sys.path.insert(0, 'site'); import generated0.m7 as m; print(m.f())"
    return place.run(sys.executable, "-c", code)


def sqlite(place: Place) -> str:
    """Write with a write-ahead log while another connection reads; check, and vacuum."""
    return place.run(sys.executable, "-c", _SQLITE, str(place.size))


def rm(place: Place) -> str:
    """Remove a clone and one of everything."""
    _clone(place)
    place.run("cp", "-a", place.material / "everything", "copy")
    place.run("rm", "-rf", "clone", "copy")
    return place.run("find")


@dataclass(frozen=True, slots=True)
class Program:
    """A program, what it needs, and what of its doing is its own.

    times, own_content: see trees.differences().
    """

    run: Callable[[Place], str]
    needs: str
    times: bool = False
    own_content: tuple[str, ...] = ()


PROGRAMS = {
    # The index has the times and inode numbers of the files.
    "git": Program(git, "git", own_content=(".git/index",)),
    "tar": Program(tar, "tar", times=True),
    "cp -a": Program(cp, "cp", times=True),
    "rsync": Program(rsync, "rsync", times=True),
    "make": Program(make, "make"),
    "pip": Program(pip, sys.executable),
    "sqlite": Program(sqlite, sys.executable),
    "rm -rf": Program(rm, "rm"),
}
