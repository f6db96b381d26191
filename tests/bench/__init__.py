# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark: this filesystem beside its peers, in one run.  docs/reference/performance.md."""
