# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal: what changed in the tree, kept on disk, to be read from a cursor on."""
