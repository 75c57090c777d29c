"""Signatures as the source has them: `images: Images` says more than the union it stands for."""

import ast
import dataclasses
import inspect
import textwrap


def of_function(function: object) -> tuple[str, str | None] | None:
  """Returns the arguments and what comes out; None where there is no source."""
  definition = _definition(inspect.unwrap(function))
  if not isinstance(definition, ast.FunctionDef):
    return None
  arguments = definition.args
  listed = arguments.posonlyargs or arguments.args
  if listed and listed[0].arg in ("self", "cls"):
    del listed[0]
  returns = definition.returns
  return f"({ast.unparse(arguments)})", None if returns is None else ast.unparse(returns)


def of_class(kind: type) -> tuple[str, None] | None:
  """Returns a dataclass's fields, or the arguments of `__init__`."""
  if not dataclasses.is_dataclass(kind):
    found = of_function(vars(kind).get("__init__"))
    return None if found is None else (found[0], None)
  listed = [
    ast.unparse(line).replace("dataclasses.field(default_factory=", "(")
    for line in _definition(kind).body
    if isinstance(line, ast.AnnAssign)
  ]
  keyword_only = ["*"] if any(field.kw_only for field in dataclasses.fields(kind)) else []
  return f"({', '.join([*keyword_only, *listed])})", None


def _definition(value: object) -> ast.stmt | None:
  try:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
  except (OSError, TypeError):
    return None
