# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that print what a library tells of a directory, for tests.run_under.matrix."""
