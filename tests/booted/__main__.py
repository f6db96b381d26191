# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a Debian tree by systemd-nspawn, and have the service and lines of fstab tried in it.

    debootstrap --variant=minbase --include=systemd-sysv,dbus,fuse3,python3 bookworm ROOT
    python -m tests.booted ROOT

As root.  Nothing in ROOT is changed: what is written goes to memory.  ROOT's Python runs this
checkout with the libraries that this Python has, so both must be of one version.  Status 1 where a
check failed, or not all of them came.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tests.conftest import REPOSITORY

_CHECKS = Path(__file__).with_name("checks.sh")
_PROGRAM = "/usr/local/bin/fusenotify"
_UNIT = """
[Service]
Type=oneshot
ExecStart=/bin/bash /run/checks/checks.sh {repository} {program}
StandardOutput=file:/run/checks/said
StandardError=file:/run/checks/complained
ExecStopPost=/bin/systemctl poweroff --force --force
"""
_BOOT_SECONDS = 300


def main() -> int:
    """Run the checks, print what they said, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.booted", description=__doc__)
    parser.add_argument("root", metavar="ROOT", help="a tree with systemd, fuse3 and Python")
    root = Path(parser.parse_args().root).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if os.geteuid() or not (root / "usr/bin" / version).exists():
        parser.error(f"be root, and give a tree with {version}; the head of this file says how")
    with tempfile.TemporaryDirectory() as directory:
        shared = Path(directory)
        program = shared / "fusenotify"
        modules = f"{REPOSITORY}:{sysconfig.get_path('purelib')}"
        program.write_text(
            f"#!/bin/sh\nPYTHONPATH={modules}\nexport PYTHONPATH\n"
            f'exec /usr/bin/{version} -m fusenotify "$@"\n'
        )
        program.chmod(0o755)
        unit = shared / "checks.service"
        unit.write_text(_UNIT.format(repository=REPOSITORY, program=_PROGRAM))
        (shared / "checks.sh").write_bytes(_CHECKS.read_bytes())
        said = shared / "said"
        said.touch()
        _boot(root, shared, [f"--bind-ro={REPOSITORY}", f"--bind-ro={sys.prefix}"])
        told = said.read_text()
        complained = shared / "complained"
        print(told, end="")
        if complained.exists():
            print(complained.read_text(), end="", file=sys.stderr)
    wanted = sum(line.startswith("check ") for line in _CHECKS.read_text().splitlines())
    passed = sum(line.startswith("ok ") for line in told.splitlines())
    print(f"{passed} of {wanted} checks passed")
    return int(passed != wanted)


def _boot(root: Path, shared: Path, bound: list[str]) -> None:
    command = [
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--volatile=overlay"),
        # Not on an overlay: SOURCE's filesystem is to be an ordinary one.
        # Which the service uses, and containers have not.
        "--system-call-filter=open_by_handle_at fanotify_init fanotify_mark",
        *("--tmpfs=/srv", "--bind=/dev/fuse", *bound, f"--bind={shared}:/run/checks"),
        f"--bind-ro={shared}/fusenotify:{_PROGRAM}",
        f"--bind-ro={shared}/checks.service:/etc/systemd/system/checks.service",
        *("--console=pipe", f"--directory={root}", "--boot", "systemd.wants=checks.service"),
    ]
    with tempfile.TemporaryFile() as console:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                timeout=_BOOT_SECONDS,
                check=False,
            )
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            print(f"systemd-nspawn: {error}", file=sys.stderr)
        if not (shared / "said").stat().st_size:
            console.seek(0)
            print(console.read().decode(errors="replace"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
