"""Settings of Sphinx, which ``make docs`` runs: Markdown pages, and API pages from docstrings."""

from __future__ import annotations

from importlib import metadata

from sphinx.domains.python import PyObject

project = "Holistic Transfer Bench"
author = "The Holistic Transfer Bench developers"
project_copyright = f"2026, {author}"
version = release = metadata.version("holistic-transfer-bench")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["results-repository"]  # files for another repository
myst_heading_anchors = 3  # so that pages can link to headings

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True  # as in the code: a value may be a path of the machine that builds
napoleon_numpy_docstring = False
napoleon_use_rtype = False  # what is before a colon in a section "Returns:" is not a type
napoleon_use_ivar = True

# Furo comes with its fonts, styles and scripts: the built pages load nothing from the network.
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"{project} {version}"
html_copy_source = False
html_show_sphinx = False

# Sphinx heads the section "Attributes:" of a docstring "Variables".
for field in PyObject.doc_field_types:
    if field.name == "variable":
        field.label = "Attributes"
