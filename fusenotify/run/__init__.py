# SPDX-License-Identifier: GPL-2.0-or-later
"""Run unmodified programs on our inotify: ``fusenotify run -- PROGRAM``.

run.child starts the program under a seccomp filter (run.filter) that makes its inotify
calls notifications (run.notify); run.supervisor answers them.  docs/reference/run.md is the manual.
"""
