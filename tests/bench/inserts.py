# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows into SQLite, a transaction each: the seconds they take, printed.

tests.bench.programs runs this module with a path that is free.  In a process
of its own, because SQLite maps files, and a filesystem that cannot read what
it wrote kills who touches the map.
"""

from __future__ import annotations

import sqlite3
import sys
from time import perf_counter

INSERTS = 300


def main() -> None:
    (path,) = sys.argv[1:]
    start = perf_counter()
    database = sqlite3.connect(path, isolation_level=None)
    (mode,) = database.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        sys.exit(f"the journal's mode is {mode}")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT)")
    for number in range(INSERTS):
        database.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 100))
    database.close()
    print(perf_counter() - start)


if __name__ == "__main__":
    main()
