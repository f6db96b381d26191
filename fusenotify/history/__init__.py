# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: changes in the tree, stored on disk, which can be read from a cursor on."""
