# SPDX-License-Identifier: GPL-2.0-or-later
"""README.md and the pages of docs/: every example is run, and the manual is built.

pages finds the examples, sessions runs those of a shell, programs those in
Python.  ``python -m tests.manual`` lists them.  docs/explanation/testing.md
says how an example is written.
"""
