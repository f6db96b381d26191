# SPDX-License-Identifier: GPL-2.0-or-later
"""fusenotify.watchdog where watchdog is not installed."""

from __future__ import annotations

import subprocess
import sys


def test_without_watchdog_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['watchdog'] = None; import fusenotify.watchdog"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.endswith("pip install 'fusenotify[watchdog]' installs it\n")
    assert done.returncode == 1
