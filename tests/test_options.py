"""Every option of a request is taken by the form, OpenAPI, the handle, the client, the manifest and the commands."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

import pytest
from starlette.datastructures import Headers

from serve_app.batch.manifest import Row, read_rows
from serve_app.cli import batch, request_flags, run
from serve_app.client.requests import SegmentOptions, segment_call
from serve_app.config.schema import AppConfig
from serve_app.schemas.field_schemas import FieldSchema, field_schemas
from serve_app.schemas.requests import RequestOptions, SegmentRequest, parse_request
from serve_app.serving.checked_request import CheckedRequest
from serve_app.serving.http import openapi
from serve_app.serving.http.forms import read_form
from serve_app.serving.messages import ObjectOptions
from tests.conftest import png

SCHEMAS = field_schemas(RequestOptions)
OPTIONS = sorted(SCHEMAS)
NOT_IN_BATCH = {"entities", "thresholds"}
"""These two belong to a row: what is looked for differs from row to row."""


def example(schema: FieldSchema) -> Any:
    """A value of an option that is not its default."""
    if "enum" in schema:
        return schema["enum"][-1]
    return {
        "string": "text",
        "number": 0.25,
        "integer": 3,
        "boolean": not schema.get("default"),
        "array": ["dog", "red sofa"],
        "object": {"dog": 0.25, "red sofa": 0.5},
    }[schema["type"]]


def test_every_option_reaches_the_work() -> None:
    carried = {field.name for kind in (CheckedRequest, ObjectOptions) for field in dataclasses.fields(kind)}
    assert set(OPTIONS) <= carried, "serving.checked_request drops these options of a request"


EXAMPLES = {name: example(schema) for name, schema in SCHEMAS.items()}
each_option = pytest.mark.parametrize("name", OPTIONS)


def as_text(value: Any) -> str:
    """A value as a field of a form or a cell of a CSV file."""
    return value if isinstance(value, str) else json.dumps(value)


async def form_fields(**fields: Any) -> Any:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{as_text(value)}\r\n'
        for name, value in fields.items()
    ]
    body = "".join([*parts, "--b--\r\n"]).encode()
    return await read_form(Headers({"content-type": "multipart/form-data; boundary=b"}), body, AppConfig().limits)


@each_option
async def test_the_form_takes_it(name: str) -> None:
    request = parse_request(await form_fields(**{name: EXAMPLES[name]}))
    assert request.given() == {name: EXAMPLES[name]}


REQUEST_BODY: dict[str, Any] = cast(dict[str, Any], openapi.SEGMENT["openapi_extra"])["requestBody"]


def described(media_type: str) -> dict[str, Any]:
    properties: dict[str, Any] = REQUEST_BODY["content"][media_type]["schema"]["properties"]
    return properties


def test_openapi_describes_these_options_and_no_others() -> None:
    assert described("application/json").keys() - {"prompt", "contextual_images", "generated_image"} == {*OPTIONS}
    assert described("multipart/form-data").keys() - {"prompt", "contextual", "generated"} == {*OPTIONS}


@each_option
def test_openapi_describes_it_with_its_range(name: str) -> None:
    schema, form = SCHEMAS[name], described("multipart/form-data")[name]
    assert schema["description"]
    assert described("application/json")[name]["description"] == schema["description"]
    assert schema["description"] in form["description"]
    if schema["type"] in {"array", "object"}:
        encoding = REQUEST_BODY["content"]["multipart/form-data"]["encoding"]
        assert encoding[name] == {"contentType": "application/json"}
        assert {**form, "description": schema["description"]}.items() <= schema.items()
        assert form.keys() & {"items", "additionalProperties"}
    else:
        assert form.items() <= schema.items()
        assert not {"enum", "minimum", "maximum", "exclusiveMinimum"} & (schema.keys() - form.keys())


@each_option
def test_the_handle_takes_it(name: str) -> None:
    value = EXAMPLES[name]
    assert parse_request({name: value}).given() == {name: value}
    assert SegmentRequest.from_files(**{name: value}).given() == {name: value}


def test_the_request_has_no_other_options() -> None:
    assert SegmentRequest.model_fields.keys() - {"prompt", "contextual_images", "generated_image"} == {*OPTIONS}


def plain(annotation: Any) -> Any:
    """A type without what pydantic alone reads: `list[Annotated[str, …]] | None` is `list[str] | None`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return plain(arguments[0])
    if origin in {Union, UnionType}:
        return Union[tuple(map(plain, arguments))]  # noqa: UP007
    return origin[tuple(map(plain, arguments))] if origin in {list, dict} else annotation


def test_the_client_names_these_options_with_their_types() -> None:
    expected = {name: plain(hint) for name, hint in get_type_hints(RequestOptions).items() if name in SCHEMAS}
    assert get_type_hints(SegmentOptions) == {**expected, "request_id": str | None}


@each_option
def test_the_client_sends_it(name: str) -> None:
    value = EXAMPLES[name]
    options = cast(SegmentOptions, {name: value})
    as_form = segment_call("", "a dog", [b"x"], None, options, timeout_s=60)
    as_json = segment_call("", "a dog", [], None, options, timeout_s=60)
    form, document = cast(dict[str, Any], as_form.body["data"]), cast(dict[str, Any], as_json.body["json"])
    sent = form[name]
    assert (sent if isinstance(value, str) else json.loads(sent)) == value
    assert document[name] == value


def test_the_manifest_has_no_other_options() -> None:
    assert Row.model_fields.keys() - {"id", "prompt", "contextual", "generated"} == {*OPTIONS}


@each_option
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_the_manifest_takes_it(tmp_path: Path, name: str, suffix: str) -> None:
    values = {"id": "a", "prompt": "a dog", "generated": "g.png", name: EXAMPLES[name]}
    text = io.StringIO()
    if suffix == ".csv":
        csv.writer(text).writerows([values, map(as_text, values.values())])
    else:
        json.dump(values, text)
    path = tmp_path / f"rows{suffix}"
    path.write_text(text.getvalue())
    (placed,) = read_rows(path)
    assert placed.row.given() == {name: EXAMPLES[name]}
    assert SegmentRequest.from_checked("", [], None, placed.row).given() == {name: EXAMPLES[name]}


def flags(name: str) -> list[str]:
    """An option on the command line."""
    value, flag = EXAMPLES[name], "--" + name.replace("_", "-")
    if name == "timeout_s":
        flag = "--timeout"
    if isinstance(value, bool):
        return [flag] if value else [flag.replace("--", "--no-")]
    if isinstance(value, dict):
        return [flag, *(f"{key}={number}" for key, number in value.items())]
    return [flag, *(value if isinstance(value, list) else [str(value)])]


def parsed(add_arguments: Callable[[argparse.ArgumentParser], None], *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


@each_option
def test_run_takes_it(tmp_path: Path, name: str) -> None:
    image = tmp_path / "g.png"
    image.write_bytes(png())
    args = parsed(run.add_arguments, "-p", "a dog", "-g", str(image), *flags(name))
    assert run.read_request(args, AppConfig()).given() == {name: EXAMPLES[name]}


@each_option
def test_batch_takes_it_for_rows_that_name_none(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["rows.jsonl", "--output", "out", *flags(name)]
    if name in NOT_IN_BATCH:
        with pytest.raises(SystemExit):
            parsed(batch.add_arguments, *arguments)
        assert "unrecognized arguments: " + flags(name)[0] in capsys.readouterr().err
    else:
        assert request_flags.given(parsed(batch.add_arguments, *arguments)) == {name: EXAMPLES[name]}
