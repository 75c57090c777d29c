"""What `rpfgsm protect --json` prints, held against the schema that programs rely on."""

import importlib.resources
import json
from typing import Any

import jsonschema

SCHEMA = json.loads((importlib.resources.files("rpfgsm_jax") / "schemas/protect.json").read_text())


def read_protect_json(text: str) -> dict[str, Any]:
  """Returns the object that a command printed; anything the schema does not name is an error."""
  found = json.loads(text)
  jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
  return found
