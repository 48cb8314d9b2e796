"""How Sphinx builds the pages (`make docs`): without a network; a missing reference or a dead link is an error."""

import importlib.util
import re
from importlib import metadata

project = "Fast-SCNN"
author = "The fastscnn developers"
release = version = metadata.version("fastscnn")
html_title = f"Fast-SCNN {release}"
html_theme = "furo"
html_show_copyright = False
exclude_patterns = ["_build", "pictures"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
napoleon_use_ivar = True

# Every reference must be found. Names of other packages cannot be: that would need their inventories, and a network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!fastscnn\.).*")]

linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_anchors = False
linkcheck_allow_unauthorized = True
linkcheck_rate_limit_timeout = 30


def code_in_backticks(app, what, name, obj, options, lines):
    """Docstrings of this package write code in single backticks, as Markdown does."""
    lines[:] = [re.sub(r"(?<![`:])`([^`]+)`(?![`_])", r"``\1``", line) for line in lines]


def inner_type(app, env, node, contnode):
    """A class in a signature that is there but stands on no page of the reference is shown without a link."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if node.get("reftype") == "class" and module.startswith("fastscnn.") and importlib.util.find_spec(module):
        return contnode if hasattr(importlib.import_module(module), name) else None
    return None


def setup(app):
    """Called by Sphinx."""
    app.connect("missing-reference", inner_type)
    app.connect("autodoc-process-docstring", code_in_backticks, priority=100)  # before napoleon
