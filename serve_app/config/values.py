"""What the sections of the configuration are made of: their base, and checks of single values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from serve_app.config.findings import hint, shown

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
MIB = 1024 * 1024


def known_device(text: str) -> str:
    """Check the name of a device.

    Raises:
        ValueError: the text is not such a name.
    """
    if re.fullmatch(r"(mps|xpu)(:\d+)?", text):
        raise ValueError(f"{text!r} is not supported: nothing was tested on it; use auto, cpu, cuda or cuda:N")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError(f"{text!r} is not a known device: use auto, cpu, cuda or cuda:N")
    return text


Device = Annotated[str, AfterValidator(known_device)]


def http_address(text: str) -> str:
    """Check an http(s) address.

    Raises:
        ValueError: the text is not such an address.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is not a valid http:// or https:// address")
    return text


HttpAddress = Annotated[str, AfterValidator(http_address)]


def one_of(engines: Mapping[str, str]) -> BeforeValidator:
    """Make a check that a value is the name of an engine."""

    def check(name: object) -> object:
        if not isinstance(name, str) or name not in engines:
            near = hint(name, engines) if isinstance(name, str) else ""
            raise ValueError(f"must be {' or '.join(map(repr, engines))}, got {shown(name)}{near}")
        return name

    return BeforeValidator(check)


class Section(BaseModel):
    """Base of every part: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def with_lists(value: object) -> object:
    """Turn tuples back into lists, at any depth: JSON knows no others, and a configuration is frozen as it is read."""
    if isinstance(value, Mapping):
        return {key: with_lists(item) for key, item in value.items()}
    return [with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def bearer_token(text: str) -> str:
    """Check a bearer token.

    Raises:
        ValueError: the token cannot stand in a header. The message does not quote it.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("a token must consist of printable ASCII characters, without spaces, and must not be empty")
    return text
