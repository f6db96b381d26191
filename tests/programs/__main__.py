# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.programs [PROGRAM ...]: real programs, natively and through a watched mount.

Run as root, for owners.  The status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.programs import material
from tests.programs.comparison import compared, scratch
from tests.programs.programs import PROGRAMS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.programs", description=__doc__)
    parser.add_argument("programs", metavar="PROGRAM", nargs="*", choices=[*PROGRAMS, []])
    parser.add_argument("--size", type=int, default=4000, help="files or rows (%(default)s)")
    parser.add_argument("-o", dest="options", default="", help="of the mount, as of mount -o")
    arguments = parser.parse_args()
    if os.geteuid():
        parser.error("only root can: what is compared has many owners")
    options = [option for option in arguments.options.split(",") if option]
    failed = False
    with scratch() as top:
        (top / "material").mkdir()
        material.make(top / "material", arguments.size)
        for name in arguments.programs or PROGRAMS:
            (top / "run").mkdir()
            failed |= not _show(name, top / "material", arguments.size, top / "run", options)
            shutil.rmtree(top / "run")
    return int(failed)


def _show(name: str, material: Path, size: int, top: Path, options: list[str]) -> bool:
    """Compare one program, print what came of it, and return whether all was the same."""
    program = PROGRAMS[name]
    if shutil.which(program.needs) is None:
        print(f"{name:8} left out: there is no {program.needs}", flush=True)
        return True
    try:
        result = compared(program, material, size, top, options)
    except subprocess.CalledProcessError as error:
        print(f"{name:8} failed: {error}\n{error.stderr.decode(errors='replace')}", flush=True)
        return False
    verdict = f"{len(result.differences)} differences" if result.differences else "the same"
    print(
        f"{name:8} {verdict}: {result.objects:,} objects, {result.heard:,} bytes of events, "
        f"{result.natively:.1f} s natively, {result.through:.1f} s through the mount",
        flush=True,
    )
    for line in result.differences[:20]:
        print("   ", ascii(line))
    return not result.differences


if __name__ == "__main__":
    sys.exit(main())
