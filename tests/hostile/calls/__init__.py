# SPDX-License-Identifier: GPL-2.0-or-later
"""What an attacker may do; see tests.hostile.context."""
