"""Sphinx: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent), str(HERE.parent / "models")]

from phaseseg import __version__  # noqa: E402

project = "ovito-phaseseg"
author = "The ovito-phaseseg developers"
project_copyright = "The ovito-phaseseg developers, MIT license"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "generated"]
exclude_patterns = ["_build", "_ext", "api", "data", "examples", "figures", "notebooks", "tables"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# The names of types in docstrings are words for readers, not references.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes and units
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_attr_annotations = False

html_theme = "furo"
html_title = "ovito-phaseseg"
html_theme_options = {"source_edit_link": ""}
