"""The base classes of all messages, and the conversion of pydantic's errors into one line.

Checks types and ranges only, not the limits of a configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from serve_app.errors import InvalidRequest, TooLarge
from serve_app.schemas.nearest import hint

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _encodable(text: str) -> str:
    # JSON can contain half of a surrogate pair ("\\ud800"), which neither tokenizers nor UTF-8 can represent.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has half of a surrogate pair, which is not a character") from None
    if "\0" in text:  # text in UTF-16 that was read as UTF-8, or binary data
        raise ValueError("has a NUL character, which is not text")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
MaskFormat = Literal["rle", "polygon", "png", "none"]
OverlayStyle = Literal["fill", "outline"]


class Wire(BaseModel):
    """Base of every message. Unknown fields are errors; a number must be finite, and text is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


_TOO_MANY = "too_many"


def at_most(count: int) -> BeforeValidator:
    """Return a validator that refuses a list or mapping of more than `count` items before it checks the items.

    Otherwise pydantic would report every wrong item, which takes time and memory.
    """

    def check(value: object) -> object:
        if isinstance(value, Sequence | Mapping) and not isinstance(value, str | bytes) and len(value) > count:
            raise PydanticCustomError(
                _TOO_MANY, "{length} items are over the limit of {limit}", {"length": len(value), "limit": count}
            )
        return value

    return BeforeValidator(check)


class Incoming(Wire):
    """Base of every message that callers send. If there are many unknown fields, only the first is reported."""

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, value: object) -> object:
        if isinstance(value, Mapping) and len(value) > len(cls.model_fields):
            unknown = next(str(key) for key in value if key not in cls.model_fields)
            raise PydanticCustomError("unknown_key", "unknown field '{key}'", {"key": shown_key(unknown)})
        return value

    def __setstate__(self, state: Any) -> None:
        """Unpickle. A field that the sender's version does not know gets its default, as in JSON."""
        super().__setstate__(state)
        for name, each in type(self).model_fields.items():
            if name not in self.__dict__ and not each.is_required():
                self.__dict__[name] = each.get_default(call_default_factory=True)


_LONGEST_KEY = 60  # characters of a caller's key in messages
_PLAIN_WORDS = {
    "extra_forbidden": "unknown field",
    "missing": "required",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def invalid_request(error: ValidationError, known: Iterable[str] = ()) -> InvalidRequest | TooLarge:
    """Convert pydantic's report into an error about its first entry, with the number of further entries.

    Args:
        error: pydantic's report.
        known: the names of the top-level fields; the message suggests the one nearest to an unknown field.

    Returns:
        TooLarge if the first entry is about the length of a list or mapping, otherwise InvalidRequest.
    """
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    field = field_path(first["loc"])
    if first["type"] == _TOO_MANY:
        return TooLarge(f"{field}: {first['msg']}", field)
    text = _PLAIN_WORDS.get(first["type"], first["msg"])
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        text += hint(field, known)
    text = text.removeprefix("Value error, ").replace("items after validation", "characters")
    more = f" (and {len(others)} more)" if others else ""
    return InvalidRequest(f"{field}: {text}{more}" if field else f"{text}{more}", field or None)


def field_path(location: Sequence[str | int]) -> str:
    """Write a location of pydantic as text.

    >>> field_path(("contextual_images", 1, "data"))
    'contextual_images[1].data'
    """
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in {"str", "bytes", "[key]"}:  # the branch of a union, or the key itself; not a field
            part = shown_key(part)
            path += f".{part}" if path else part
    return path


def shown_key(key: str) -> str:
    """Write a caller's key for a message: shortened and printable; '' if it is empty."""
    shown = key if len(key) <= _LONGEST_KEY else key[:_LONGEST_KEY] + "…"
    if not key:
        return "''"
    return shown if shown.isprintable() else repr(shown)[1:-1]
