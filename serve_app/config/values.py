"""The base class of the configuration's sections, and the types and checks of single values."""

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
    """Return the text if it is the name of a supported device.

    Raises:
        ValueError: the device is unknown or not supported.
    """
    if re.fullmatch(r"(mps|xpu)(:\d+)?", text):
        raise ValueError(f"{text!r} is not supported: nothing was tested on it; use auto, cpu, cuda or cuda:N")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError(f"{text!r} is not a known device: use auto, cpu, cuda or cuda:N")
    return text


Device = Annotated[str, AfterValidator(known_device)]


def http_address(text: str) -> str:
    """Return the text if it is an address that starts with http:// or https://.

    Raises:
        ValueError: it is not such an address.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is not a valid http:// or https:// address")
    return text


HttpAddress = Annotated[str, AfterValidator(http_address)]


def one_of(engines: Mapping[str, str]) -> BeforeValidator:
    """Return a pydantic validator that accepts only the names of the given engines."""

    def check(name: object) -> object:
        if not isinstance(name, str) or name not in engines:
            near = hint(name, engines) if isinstance(name, str) else ""
            raise ValueError(f"must be {' or '.join(map(repr, engines))}, got {shown(name)}{near}")
        return name

    return BeforeValidator(check)


class Section(BaseModel):
    """Base of every section of the configuration: instances are immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def with_lists(value: object) -> object:
    """Return the value with lists in place of tuples, at any depth.

    Configurations are read with tuples, but a JsonValue must not contain tuples.
    """
    if isinstance(value, Mapping):
        return {key: with_lists(item) for key, item in value.items()}
    return [with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def bearer_token(text: str) -> str:
    """Return the text if it is allowed as a bearer token in a header.

    Raises:
        ValueError: it is not allowed. The message does not quote the text.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("a token must consist of printable ASCII characters, without spaces, and must not be empty")
    return text
