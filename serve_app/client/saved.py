"""Reads saved result documents: files, their text, and lines of the shards of `genseg batch`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serve_app.client.failures import InvalidAnswer, error_of
from serve_app.schemas.base import field_path
from serve_app.schemas.documents import ErrorBody, ResultDocument

Document = TypeVar("Document", bound=BaseModel)


def load_document(source: str | bytes | PathLike[str] | Mapping[str, object]) -> ResultDocument:
    """Read a saved document; see Result.load.

    Raises:
        OSError: the file cannot be read.
        InvalidAnswer: it is neither a result document nor a saved error.
        GensegError: it is a saved error, such as the line of a failed row or the body of an HTTP error.
    """
    if isinstance(source, Mapping):
        return _checked(source, "the document")
    if isinstance(source, str) and not source.strip("\ufeff \t\r\n"):
        raise InvalidAnswer("the text: is empty")
    if isinstance(source, bytes) or (isinstance(source, str) and source.lstrip("\ufeff \t\r\n").startswith("{")):
        return _checked(_decoded(source, "the text"), "the text")
    return _checked(_decoded(Path(source).read_bytes(), fspath(source)), fspath(source))


def _decoded(text: str | bytes, name: str) -> object:
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        return json.loads(text)
    except json.JSONDecodeError as error:
        lines = text.strip().splitlines() if isinstance(text, str) else []
        if error.msg == "Extra data" and len(lines) > 1:
            raise InvalidAnswer(
                f"{name}: has {len(lines)} lines; Result.load reads one document, so pass it one line"
            ) from None
        raise InvalidAnswer(f"{name}: is not JSON: {error}") from None
    except UnicodeDecodeError:
        raise InvalidAnswer(f"{name}: is not UTF-8 text") from None
    except ValueError:
        raise InvalidAnswer(f"{name}: is not JSON that can be read: a number has too many digits") from None
    except RecursionError:
        raise InvalidAnswer(f"{name}: is not a result document: nested too deep") from None


def _checked(value: object, name: str) -> ResultDocument:
    if not isinstance(value, Mapping):
        raise InvalidAnswer(f"{name}: is not a result document, but {type(value).__name__}")
    if "entities" not in value:
        for failed in (value, value.get("error")):  # the line of a failed row, or the body of an HTTP error
            if isinstance(failed, Mapping) and failed.keys() >= {"code", "message"}:
                raise error_of(_model(ErrorBody, failed, f"{name}: is not an error"))
    return _model(ResultDocument, value, f"{name}: is not a result document")


def _model(model: type[Document], value: object, fault: str) -> Document:
    try:
        return model.model_validate(value, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InvalidAnswer(f"{fault}: {field_path(first['loc'])}: {first['msg']}") from None
