"""Sphinx's settings for the documentation site, which `bin/docs` builds.

The source is the clone itself: README.md, the pages in docs/ and the notebooks are the pages of the
site, and their links lead to the same places as in the repository. Notebooks are executed while the
site is built.
"""

import os
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CLONE), str(CLONE / "docs")]

from docstrings import constructor, skipped, to_restructured_text  # noqa: E402
from pygments.lexers import PythonLexer  # noqa: E402

from robust_tf.version import __version__  # noqa: E402

project, author, release = "robust_tf", "The robust_tf authors", __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/index"
include_patterns = ["*.md", "results/*.md", "docs/*.md", "docs/**/*.md"]
include_patterns += ["notebooks/*.md"]
folders = {path.name for path in CLONE.iterdir() if path.is_dir()}
exclude_patterns = sorted(folders - {"docs", "notebooks", "results"})

myst_heading_anchors = 4  # as GitHub makes them: #your-own-modules
highlight_language = "none"

os.environ.setdefault("ROBUST_TF_BUDGET", "small")  # of the notebooks, in their first cells
nb_execution_mode = "force"
nb_execution_in_temp = True  # what a notebook writes goes with it
nb_execution_timeout = 7200  # seconds a cell
nb_execution_show_tb = True
nb_render_markdown_format = "myst"  # CommonMark has no tables
nb_output_stderr = "remove"  # what TensorFlow says of the machine when it starts

smartquotes = False  # 'Linf' is a value
autodoc_inherit_docstrings = False  # Keras' own
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
nitpicky = True
# Types of other libraries, and the private ones of this: shown, not linked.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"robust_tf {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_copyright = False
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]


def setup(app):
    """Docstrings are plain text, not reStructuredText."""
    app.add_lexer("gin", PythonLexer)
    app.connect("autodoc-process-docstring", to_restructured_text, priority=100)  # before napoleon
    app.connect("autodoc-skip-member", skipped)
    app.connect("autodoc-process-signature", constructor)
