"""The typed dicts that the service builds have the keys and types of the models that check them."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from serve_app.schemas import dicts, documents, events, requests, verdict

PAIRS: list[tuple[type, type[BaseModel]]] = [
    (dicts.RleDict, documents.Rle),
    (dicts.RingDict, documents.Ring),
    (dicts.ErrorDict, documents.ErrorBody),
    (dicts.ErrorAnswerDict, documents.ErrorDocument),
    (dicts.ObjectDict, documents.ObjectDocument),
    (dicts.ImageDict, documents.ImageDocument),
    (dicts.ModelsDict, documents.Models),
    (dicts.TimingsDict, documents.Timings),
    (dicts.MetaDict, documents.Meta),
    (dicts.ResultDict, documents.ResultDocument),
    (dicts.DroppedDict, documents.DroppedEntity),
    (dicts.EntitiesDict, documents.EntitiesDocument),
    (dicts.BareDict, verdict.Bare),
    (dicts.EntityVerdictDict, verdict.EntityVerdict),
    (dicts.ReferenceVerdictDict, verdict.ReferenceVerdict),
    (dicts.OverlapDict, verdict.Overlap),
    (dicts.VerdictScoresDict, verdict.VerdictScores),
    (dicts.IdentityDict, verdict.Identity),
    (dicts.VerdictDict, verdict.Verdict),
    (events.EntitiesEventDict, events.EntitiesEventDocument),
    (events.ImageEventDict, events.ImageEventDocument),
    (events.ResultEventDict, events.ResultEventDocument),
    (events.ErrorEventDict, events.ErrorEventDocument),
]
MODEL_OF = dict(PAIRS)


def plain(annotation: Any) -> Any:
    """Write a type without its constraints, and with models in the place of typed dicts."""
    if annotation in MODEL_OF:
        return MODEL_OF[annotation].__name__
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Annotated, Required, NotRequired}:
        return plain(arguments[0])
    if origin in {Union, UnionType}:
        return frozenset(map(plain, arguments))
    if origin is Literal:
        return arguments
    if origin is not None:
        return (origin, *map(plain, arguments))
    return annotation.__name__ if isinstance(annotation, type) else annotation


def without_none(written: Any) -> Any:
    kinds = written - {NoneType.__name__} if isinstance(written, frozenset) else written
    return next(iter(kinds)) if isinstance(kinds, frozenset) and len(kinds) == 1 else kinds


@pytest.mark.parametrize(("typed", "model"), PAIRS, ids=[model.__name__ for _, model in PAIRS])
def test_typed_dicts_and_models_are_equal(typed: Any, model: type[BaseModel]) -> None:
    hints = get_type_hints(typed, include_extras=True)
    assert set(hints) == set(model.model_fields)
    for name, field in model.model_fields.items():
        ours, checked = plain(hints[name]), plain(field.annotation)
        # What may be missing is null in a model's attribute, and not there in a dict.
        assert (ours if field.is_required() else without_none(ours)) == (
            checked if field.is_required() else without_none(checked)
        ), name
        assert name in typed.__required_keys__ or not field.is_required(), name


def test_every_typed_dict_has_its_model() -> None:
    made = {
        value for module in (dicts, events) for value in vars(module).values() if hasattr(value, "__required_keys__")
    }
    assert made - set(MODEL_OF) == {dicts.SegmentedDict}, "an image without its path: it never leaves the service"


@pytest.mark.parametrize(
    ("typed", "model"), [(requests.SegmentBody, requests.SegmentRequest), (requests.ImageBody, requests.ImageInput)]
)
def test_bodies_over_a_handle_have_the_fields_of_their_models(typed: Any, model: type[BaseModel]) -> None:
    assert set(get_type_hints(typed)) == set(model.model_fields)
    assert not typed.__required_keys__, "what is missing has a default, or is an error that the model reports"
