"""Writes the reference of all configuration keys, `configs/README.md`, from the schema.

    python -m serve_app.config.reference > configs/README.md

Names, types, ranges, defaults and descriptions come from `config.schema`. A test compares the page with the schema.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import NoneType
from typing import get_args

from pydantic.json_schema import JsonSchemaValue

from serve_app.config.schema import AppConfig
from serve_app.config.user_config import SETTINGS
from serve_app.config.values import Section

HEADER = """\
# Configuration keys

Every key of `args:` in a Serve config and of a `--config` file. A key that is left out takes its default. The files
beside this page are complete examples. `genseg check-config FILE` finds misspelt keys, wrong types and impossible
numbers.

A change of `args:` restarts the replicas. Some sections may also stand in the `user_config:` of a deployment; the text
under the section's heading names it. Ray applies a change there to the running replicas, without a restart. A section
in `user_config:` replaces the same section of `args:` as a whole.

`python -m serve_app.config.reference` makes this page from the schema in `serve_app/config/`.
"""
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most", "exclusiveMaximum": "under"}
"""Keywords of JSON Schema for numbers, and how a sentence says them."""


def reference() -> str:
    """Return the whole page, as Markdown."""
    return "\n".join([HEADER, *_section(AppConfig, "")])


def _section(model: type[Section], path: str) -> Iterator[str]:
    """Yield the lines of a section: its heading, a table of its own keys, then the sections inside it."""
    if path:
        takers = _takers(path)
        place = f" May stand in the `user_config:` of {' and of '.join(takers)}." if takers else ""
        yield f"## `{path}`\n\n{_paragraph(model.__doc__)}{place}\n"
    schemas = model.model_json_schema()["properties"]
    inner: dict[str, type[Section]] = {}
    rows = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            inner[name] = field.annotation
        else:
            default = json.dumps(schemas[name]["default"])
            what = f"{field.description or ''}{_only_of(path, name)}"
            rows.append(f"| `{name}` | {_type(schemas[name])} | `{default}` | {what} |")
    if rows:
        yield "\n".join(["| key | type | default | what |", "| --- | --- | --- | --- |", *rows, ""])
    for name, section in inner.items():
        yield from _section(section, f"{path}.{name}" if path else name)


def _takers(path: str) -> dict[str, frozenset[str]]:
    """Return the deployments whose `user_config` takes a section, and the keys of it that each takes."""
    found = {}
    for deployment, settings in SETTINGS.items():
        for section in get_args(settings.model_fields[path].annotation) if path in settings.model_fields else ():
            if section is not NoneType:
                found[deployment] = frozenset(section.model_fields)
    return found


def _only_of(path: str, key: str) -> str:
    """Name the deployments whose `user_config` takes a key, if not all those of its section do."""
    takers = _takers(path)
    names = [name for name, keys in takers.items() if key in keys]
    if takers and not names:
        return " In `args:` only."
    return "" if len(names) == len(takers) else f" In `user_config:` of {' and '.join(names)} only."


def _paragraph(docstring: str | None) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((docstring or "").split("\n\n")[0].split())


def _type(schema: JsonSchemaValue) -> str:
    """Say in words what values a key takes."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " \\| ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}s"
    bounds = [f"{words} {schema[key]}" for key, words in BOUNDS.items() if key in schema]
    return ", ".join([schema["type"], *bounds])


if __name__ == "__main__":
    sys.stdout.write(reference())
