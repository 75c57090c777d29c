"""The reference: entries of public names, made from docstrings as this project writes them."""

import importlib
import inspect
import sys
from collections.abc import Iterator

import click
import docstrings
import signatures
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import rpfgsm_jax

SHORT = "rp."  # how the pages call the package, `import rpfgsm_jax as rp`
HOMES = ("rpfgsm_jax", "rpfgsm_jax.typing", "rpfgsm_jax.photos", "rpfgsm_jax.defenses")


class Public(SphinxDirective):
  """Entries of public names of a module: of those listed, or of all."""

  required_arguments = 1
  has_content = True

  def run(self) -> list[nodes.Node]:
    """Returns the entries in the order of the list."""
    module = importlib.import_module(self.arguments[0])
    names = " ".join(self.content).split() or module.__all__
    lines = [f".. py:module:: {module.__name__}\n" if not self.content else ""]
    for name in names:
      lines += entry(module, name)
    text = "\n".join(lines)
    return self.parse_text_to_nodes(f"```{{eval-rst}}\n{text}\n```")


def entry(module: object, name: str) -> Iterator[str]:
  """Yields the lines of one name's entry, in reStructuredText."""
  value, full = getattr(module, name), f"{module.__name__}.{name}"
  if inspect.ismodule(value):
    return
  if module is not rpfgsm_jax and getattr(rpfgsm_jax, name, None) is value:
    yield f"``{full}`` is :py:obj:`rpfgsm_jax.{name}`.\n"
  elif inspect.isclass(value):
    yield f".. autoclass:: {full}\n   :members:\n   :special-members: __call__\n"
  elif inspect.isroutine(value) or hasattr(value, "__wrapped__"):
    yield f".. autofunction:: {full}\n"
  else:
    yield f".. py:data:: {name}\n   :module: {module.__name__}\n"
    yield from (f"   {line}" for line in constant_docstring(name, value))


def constant_docstring(name: str, value: object) -> list[str]:
  """Returns the text below a constant's line, wherever the constant is defined."""
  for home, module in sorted(sys.modules.items()):
    if home.startswith("rpfgsm_jax.") and vars(module).get(name) is value:
      analyzer = ModuleAnalyzer.for_module(home)
      analyzer.analyze()
      if found := analyzer.attr_docs.get(("", name)):
        return docstrings.to_restructured("\n".join(found))
  raise ValueError(f"The public constant {name} needs a docstring below its line.")


class CommandHelp(SphinxDirective):
  """What `--help` prints, of a command and of each of its commands."""

  required_arguments = 1

  def run(self) -> list[nodes.Node]:
    """Returns a section a command."""
    module, name = self.arguments[0].rsplit(".", 1)
    command = getattr(importlib.import_module(module), name)
    found = []
    for each, context in commands(command, click.Context(command, info_name="rpfgsm")):
      title = context.command_path
      section = nodes.section(ids=[nodes.make_id(title)])
      text = each.get_help(context)
      section += [nodes.title(text=title), nodes.literal_block(text, text, language="text")]
      found.append(section)
    return found


def commands(
  command: click.Command, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
  """Yields a command and all below it, each with its context."""
  context.terminal_width = 96
  yield command, context
  for name in command.list_commands(context) if isinstance(command, click.Group) else ():
    below = command.get_command(context, name)
    yield from commands(below, click.Context(below, info_name=name, parent=context))


def process_docstring(
  app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
  """Gives Sphinx a docstring in its own markup."""
  text = "\n".join(lines)
  if inspect.isclass(value):
    text = docstrings.with_fields(text, value)
  lines[:] = docstrings.to_restructured(text)


def process_signature(
  app: Sphinx, what: str, name: str, value: object, options: object, shown: str, returns: str
) -> tuple[str, str | None] | None:
  """Gives Sphinx a signature as the source has it."""
  return signatures.of_class(value) if what == "class" else signatures.of_function(value)


def link_names(app: Sphinx, tree: nodes.document) -> None:
  """Lets every public name in a page's inline code lead to its entry."""
  for literal in list(tree.findall(nodes.literal)):
    name = literal.astext().partition("(")[0]
    if name.startswith(SHORT) and not isinstance(literal.parent, nodes.reference):
      target = "rpfgsm_jax." + name.removeprefix(SHORT)
      link = addnodes.pending_xref(
        "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=True
      )
      literal.replace_self(link)
      link += literal


def resolve_short(
  app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Node
) -> nodes.Node | None:
  """Finds the entry of a type that a signature names without its module."""
  domain = env.get_domain("py")
  for home in HOMES if node.get("refdomain") == "py" else ():
    target = f"{home}.{node['reftarget'].rpartition('.')[2]}"
    if target in domain.objects:
      page = node.get("refdoc", env.docname)
      return domain.resolve_xref(env, page, app.builder, "obj", target, node, content)
  return None


def setup(app: Sphinx) -> dict:
  """Registers the directives, and what docstrings, signatures and pages go through."""
  app.add_directive("public", Public)
  app.add_directive("command-help", CommandHelp)
  app.connect("autodoc-process-docstring", process_docstring)
  app.connect("autodoc-process-signature", process_signature)
  app.connect("doctree-read", link_names)
  app.connect("missing-reference", resolve_short)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
