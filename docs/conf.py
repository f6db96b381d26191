# SPDX-License-Identifier: GPL-2.0-or-later
"""How Sphinx makes the manual from these pages: ``python -m sphinx -W docs docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE / "_extensions"), str(_HERE.parent)]

project = "fusenotify"
author = "the authors of fusenotify"
project_copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "command_help"]
exclude_patterns = ["_build"]

# Each heading down to the third level can be linked to as on GitHub: page.md#the-heading.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# What stands in code without a language is output, a format, a path.
highlight_language = "text"
nitpicky = True
# Types in signatures are Python's own, or parts that have no entry of their own in the manual.
nitpick_ignore_regex = [("py:.*", ".*")]
# Client is a name of both fusenotify.client and fusenotify.client.aio.
suppress_warnings = ["ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "fusenotify"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sphinx = False

# For links to other sites: python -m sphinx -b linkcheck docs docs/_build/links
linkcheck_timeout = 20
