"""A row's fields and the columns that ride along."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue

from serve_app.batch.row import ManifestError, Row, misspelt_field, read_row

GOOD: dict[str, JsonValue] = {"id": "a", "prompt": "a dog", "generated": "g.png"}
OPTIONAL = sorted(Row.model_fields.keys() - {"id", "prompt", "generated"})


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_is_the_same_as_no_such_column(name: str) -> None:
    row = read_row({**GOOD, name: None})
    assert row == read_row(GOOD)
    assert row.digest() == Row.model_validate(GOOD).digest()
    assert row.given() == {}


def test_null_is_no_prompt_and_no_image() -> None:
    row = read_row({"id": 1, "prompt": None, "entities": ["dog"], "contextual": ["c.png"], "generated": None})
    assert row.digest() == Row(id=1, entities=["dog"], contextual=["c.png"]).digest()
    with pytest.raises(ManifestError, match=r"^id: required$"):
        read_row({**GOOD, "id": None})
    with pytest.raises(ManifestError, match="no image"):
        read_row({**GOOD, "generated": None})


def test_nulls_of_a_mapping_are_left_out() -> None:
    """Tables have a field for every name that any row has."""
    assert read_row({**GOOD, "thresholds": {"dog": 0.3, "cat": None}}).thresholds == {"dog": 0.3}
    assert read_row({**GOOD, "thresholds": {"cat": None}}).digest() == Row.model_validate(GOOD).digest()


def test_other_columns_ride_along_and_are_no_part_of_the_digest() -> None:
    columns: dict[str, JsonValue] = {"seed": 7, "model": "x", "group": "sdxl", "tags": ["a", {"b": 1.5}], "flag": False}
    row = read_row({**GOOD, **columns, "empty": None})
    assert row.columns == columns
    assert row.digest() == Row.model_validate(GOOD).digest()
    assert read_row(GOOD).columns == {}


def test_columns_are_written_the_way_json_can() -> None:
    row = read_row({**GOOD, "a": float("nan"), "b": float("inf"), "c": {"d": float("nan")}})
    assert row.columns == {"b": "inf", "c": {"d": None}}


def nested(levels: int) -> JsonValue:
    value: JsonValue = 1
    for _ in range(levels):
        value = [value]
    return value


def test_columns_are_nested_a_hundred_levels_deep_at_most() -> None:
    assert read_row({**GOOD, "x": nested(100)}).columns == {"x": nested(100)}
    for levels in (101, 900, 5000):
        with pytest.raises(ManifestError, match=r"^x: nested too deep, over 100 levels$"):
            read_row({**GOOD, "x": nested(levels)})


@pytest.mark.parametrize("name", sorted(Row.model_fields))
def test_a_field_that_is_nested_too_deep_is_wrong_in_one_line(name: str) -> None:
    values: list[JsonValue] = [nested(900), {"a": nested(900)}, [{"a": nested(900)}]]
    for value in values:
        with pytest.raises(ManifestError, match=f"^{name}") as caught:
            read_row({**GOOD, name: value})
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("column", [{"x": "\ud800"}, {"x\ud800": 1}, {"x": [{"y": "\ud800"}]}], ids=ascii)
def test_columns_have_no_half_characters(column: dict[str, JsonValue]) -> None:
    with pytest.raises(ManifestError, match="half of a surrogate pair"):
        read_row({**GOOD, **column})


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("promt", "prompt"),
        ("contextal", "contextual"),
        ("contextuals", "contextual"),
        ("ID", "id"),
        ("Prompt", "prompt"),
        ("idx", "id"),
        ("treshold", "threshold"),
        ("thershold", "threshold"),
        ("mask-format", "mask_format"),
        ("Mask Format", "mask_format"),
        ("timeout", "timeout_s"),
        ("overlay", "overlays"),
        ("contextual_images", "contextual"),
        ("generated_image", "generated"),
        ("generator", "generated"),
        ("verdicts", "verdict"),
        ("context", "contextual"),
        ("Context", "contextual"),
        ("contextual-im", "contextual"),
        ("thresh", "threshold"),
        ("entity", "entities"),
        ("Entity", "entities"),
        ("mask_thresh", "mask_threshold"),
    ],
)
def test_a_name_that_is_near_to_a_field_is_refused(name: str, field: str) -> None:
    assert misspelt_field(name) == field
    with pytest.raises(ManifestError, match=f"unknown field '{name}'; did you mean '{field}'?"):
        read_row({**GOOD, name: "x"})


@pytest.mark.parametrize(
    "name",
    [
        *["seed", "model", "group", "split", "n", "lr", "url", "caption", "source", "prompt_id", "image", "style"],
        *[
            "category",
            "score",
            "con",
            "gen",
            "ent",
            "contexts_of",
            "entity_id",
            "masked",
            "text",
            "promoted",
            "time",
            "mask",
        ],
    ],
)
def test_any_other_name_is_none_that_is_misspelt(name: str) -> None:
    assert misspelt_field(name) is None
    assert read_row({**GOOD, name: "x"}).columns == {name: "x"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "contextual": "x.png"}, r"contextual: must be a list, such as \[\"a.png\", \"b.png\"\]; a text is"),
        ({**GOOD, "contextual": "https://x/y?sig=secret"}, r"contextual: must be a list"),
        ({**GOOD, "entities": "dog"}, r"entities: must be a list, such as \[\"dog\"\]"),
        ({**GOOD, "thresholds": "dog=0.3"}, r"thresholds: must be an object, such as \{\"dog\": 0.3\}"),
        ({**GOOD, "id": {"0": "a"}}, r"id: an object\..* to_json\(path, orient='records', lines=True\)"),
        ({"id": 1, "text": "a dog", "image": "g.png"}, r"no image: .*; columns that are not fields: 'text', 'image'$"),
        ({"name": 1, "prompt": "a dog", "generated": "g"}, r"^id: required; columns that are not fields: 'name'$"),
        ({"name": 1, **{f"c{i}": i for i in range(20)}}, r"'name', 'c0', .*'c6' and 13 more$"),
    ],
    ids=["contextual", "address", "entities", "thresholds", "to_json", "no image", "no id", "many"],
)
def test_what_is_wrong_says_what_to_write(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        read_row(row)
    assert "secret" not in caught.value.message


def test_an_id_of_a_column_of_floats_is_whole() -> None:
    assert read_row({**GOOD, "id": 7.0}).id == 7
    with pytest.raises(ManifestError, match=r"^id: must be a text or a whole number$"):
        read_row({**GOOD, "id": 7.5})
