# SPDX-License-Identifier: GPL-2.0-or-later
"""Real programs, run natively and through a watched mount: what they leave must be the same."""
