"""Write `/docs`, the API description as one HTML page, without scripts and without files from other servers. Pure."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape

from pydantic import JsonValue
from pydantic.json_schema import JsonSchemaValue

Schema = JsonSchemaValue

_LIMITS = {
    "minLength": "length at least {}",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "over {}",
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#1a1a1a;background:#fff}
h2{margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem}code,pre{font:14px/1.4 ui-monospace,monospace}
pre{background:#f4f4f4;padding:.75rem;overflow-x:auto}table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e8e8e8}pre{background:#262626}a{color:#8ab4f8}}
"""
POLICY = f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
"""The page's Content-Security-Policy: no files, no scripts, and only the page's own style."""
_CURL = {
    "/v1/segment": "curl -F prompt='A dog on a red sofa' -F contextual=@a.jpg -F generated=@g.jpg URL/v1/segment",
    "/v1/entities": 'curl --json \'{"prompt": "A dog on a red sofa"}\' URL/v1/entities',
    "/healthz": "curl URL/healthz",
    "/readyz": "curl URL/readyz",
}


def docs_page(document: Schema) -> str:
    """Write the page.

    Args:
        document: the answer of `/openapi.json`.

    Returns:
        HTML.
    """
    info = document["info"]
    routes = "".join(
        _route(method, path, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>"
        '<p>For programs: <a href="openapi.json">openapi.json</a>. In the examples, URL is the address of this service.'
        f"</p>{routes}</body></html>"
    )


def _route(method: str, path: str, operation: Schema, document: Schema) -> str:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"]
    if "description" in operation:
        parts.append(f"<p>{escape(operation['description'])}</p>")
    if path in _CURL:
        parts.append(f"<pre>{escape(_CURL[path])}</pre>")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h3>Body as <code>{escape(kind)}</code></h3>{_fields(content['schema'], document)}")
    parts.append("<h3>Answers</h3><table><tr><th>status</th><th>when</th></tr>")
    for status, answer in operation["responses"].items():
        parts.append(f"<tr><td>{escape(status)}</td><td>{escape(answer['description'])}</td></tr>")
    parts.append("</table>")
    for status, words in (("200", "200"), ("405", "Every error")):
        for kind, content in operation["responses"].get(status, {}).get("content", {}).items():
            parts.append(f"<h3>{words} as <code>{escape(kind)}</code></h3>{_shapes(content, document)}")
    return "".join(parts)


def _fields(schema: Schema, document: Schema) -> str:
    return f"<table><tr><th>field</th><th>type</th><th></th></tr>{''.join(_rows(schema, document))}</table>"


def _rows(schema: Schema, document: Schema, prefix: str = "") -> Iterator[str]:
    """Yield a table row per field. The fields of an object, or of the objects in a list, follow that row."""
    for name, field in schema["properties"].items():
        said = _said(field, name in schema.get("required", ()), document)
        yield (
            f"<tr><td><code>{escape(prefix + name)}</code></td><td>{escape(_kind(field, document))}</td>"
            f"<td>{escape(said)}</td></tr>"
        )
        for member in _members(field, document):
            inner = _resolved(member["items"], document) if "items" in member else member
            if "properties" in inner:
                yield from _rows(inner, document, f"{prefix}{name}[i]." if "items" in member else f"{prefix}{name}.")


def _kind(schema: Schema, document: Schema) -> str:
    """Return a type in words, such as `number or null` or `list of string`."""
    schema = _resolved(schema, document)
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(member, document) for member in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'], document)}"
    if schema.get("properties"):
        return "{" + ", ".join(schema["properties"]) + "}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"mapping of names to {_kind(schema['additionalProperties'], document)}"
    return "file" if schema.get("format") == "binary" else str(schema.get("type", "anything"))


def _said(schema: Schema, required: bool, document: Schema) -> str:
    said = [str(schema["description"])] if "description" in schema else []
    limits = {limit for each in _members(schema, document) for limit in _bounds(each)}
    if required:
        said.append("Required.")
    if limits:
        said.append(", ".join(sorted(limits)).capitalize() + ".")
    if schema.get("default") is not None:
        said.append(f"Default: {json.dumps(schema['default'])}.")
    return " ".join(said)


def _members(schema: Schema, document: Schema) -> Iterator[Schema]:
    schema = _resolved(schema, document)
    yield schema
    for member in schema.get("anyOf", ()):
        yield from _members(member, document)


def _bounds(schema: Schema) -> Iterator[str]:
    for keyword, words in _LIMITS.items():
        if keyword in schema:
            value = schema[keyword]
            yield words.format(int(value) if value == int(value) else value)


def _shapes(content: Schema, document: Schema) -> str:
    schema = _resolved(content["schema"], document)
    shapes = [_shape(member, document) for member in schema.get("anyOf", [schema])]
    return "".join(f"<pre>{escape(json.dumps(shape, indent=1, ensure_ascii=False))}</pre>" for shape in shapes)


def _shape(schema: Schema, document: Schema) -> JsonValue:
    """Return an example of the schema, with the names of types as values."""
    schema = _resolved(schema, document)
    if "const" in schema:
        constant: JsonValue = schema["const"]
        return constant
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "properties" in schema:
        return {name: _shape(field, document) for name, field in schema["properties"].items()}
    if schema.get("type") == "array" and "items" in schema:
        return [_shape(schema["items"], document)]
    if "anyOf" in schema:
        first, *others = schema["anyOf"]
        shape = _shape(first, document)
        return f"{shape} or null" if others and isinstance(shape, str) else shape
    if isinstance(schema.get("additionalProperties"), Mapping):
        return {"…": _shape(schema["additionalProperties"], document)}
    return _kind(schema, document)


def _resolved(schema: Schema, document: Schema) -> Schema:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema
