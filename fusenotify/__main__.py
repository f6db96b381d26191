# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m fusenotify`` is the command ``fusenotify``."""

import sys

from fusenotify.cli import main

if __name__ == "__main__":
    sys.exit(main())
