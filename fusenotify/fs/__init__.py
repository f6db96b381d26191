# SPDX-License-Identifier: GPL-2.0-or-later
"""The filesystem: a passthrough of SOURCE that reports operations to engine.hooks."""
