"""Settings of the documentation site: `make docs`.

Sphinx, because it imports the package (names that are loaded late have entries as others), checks
every link and reference, and its search needs no server.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

import rpfgsm_jax

project = "rpfgsm-jax"
author = "the authors of rpfgsm-jax"
version = release = rpfgsm_jax.__version__
extensions = [
  "myst_nb",
  "sphinx.ext.autodoc",
  "sphinx.ext.viewcode",
  "mathml",
  "reference",
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints", "jupyter_execute"]
nitpicky = True  # a reference that leads nowhere is a warning, and `make docs` stops at warnings
nitpick_ignore_regex = [("py:(class|exc)", ".*")]  # types of other projects in signatures

html_theme = "furo"
html_title = f"rpfgsm-jax {release}"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
highlight_language = "text"

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4  # the anchors that GitHub gives to headings
nb_execution_mode = (
  "off"  # notebooks keep the outputs that they were committed with; a test runs them
)

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
