# SPDX-License-Identifier: GPL-2.0-or-later
"""An ordinary user who means harm: what the promises of docs/reference/security.md are worth.

__main__ runs rounds; world makes the mount and what must stay as it is; users
is who they are; program draws what the attacker does, attacker does it, out
of the calls in calls; rounds judges what is left of the daemon and of others.
"""
