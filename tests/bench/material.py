# SPDX-License-Identifier: GPL-2.0-or-later
"""What the programs of tests.bench.programs work on: generated, the same in every run.

make() is called once per run, with a directory outside the filesystems that
are compared.  A missing program is filesystems.Unavailable.
"""

from __future__ import annotations

import random
import subprocess
import zipfile
from pathlib import Path

from tests.bench.peers import output_of

DIRECTORIES = 50
FILES = 1000
SOURCES = 20
WHEELS = 3
MODULES = 100  # per wheel


def make(directory: Path) -> None:
    """Write repository.git, tree.tar, c/ and wheels/ into an empty directory."""
    repository = directory / "repository.git"
    output_of("git", "init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    subprocess.run(["git", "fast-import", "--quiet"], cwd=repository, input=_commit(), check=True)
    archive = ("archive", "--format=tar", f"--output={directory / 'tree.tar'}", "main")
    output_of("git", "--git-dir", str(repository), *archive)
    _write_c(directory / "c")
    (directory / "wheels").mkdir()
    for number in range(WHEELS):
        _write_wheel(directory / "wheels", f"generated{number}")


def _commit() -> bytes:
    """Return a stream for git fast-import: one commit of FILES files of some KB."""
    chance = random.Random(1)
    message = b"generated\n"
    parts = [
        b"commit refs/heads/main\ncommitter Nobody <nobody@example.org> 1700000000 +0000\n",
        b"data %d\n%s" % (len(message), message),
    ]
    for number in range(FILES):
        text = chance.randbytes(chance.randrange(100, 3000)).hex().encode() + b"\n"
        name = b"directory-%02d/file-%04d.txt" % (number % DIRECTORIES, number)
        parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name, len(text), text))
    return b"".join(parts)


def _write_c(directory: Path) -> None:
    """Write SOURCES files of C, a header that all include, and a Makefile."""
    directory.mkdir()
    calls = "".join(f"int f{number}(int);\n" for number in range(SOURCES))
    (directory / "all.h").write_text(f"#include <stdio.h>\n{calls}")
    for number in range(SOURCES):
        (directory / f"f{number}.c").write_text(
            f'#include "all.h"\nint f{number}(int x) {{ return x * {number} + 1; }}\n'
        )
    sums = " + ".join(f"f{number}(1)" for number in range(SOURCES))
    (directory / "main.c").write_text(
        f'#include "all.h"\nint main(void) {{ return printf("%d\\n", {sums}) < 0; }}\n'
    )
    objects = " ".join(f"f{number}.o" for number in range(SOURCES))
    (directory / "Makefile").write_text(
        f"program: main.o {objects}\n\t$(CC) -o $@ $^\n%.o: %.c all.h\n\t$(CC) -O1 -c -o $@ $<\n"
    )


def _write_wheel(directory: Path, name: str) -> None:
    """Write a wheel of one package with MODULES modules."""
    files = {
        f"{name}/m{number}.py": f"def f():\n    return {number}\n" * 20 for number in range(MODULES)
    }
    files[f"{name}/__init__.py"] = ""
    info = f"{name}-1.0.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
