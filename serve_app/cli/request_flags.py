"""Makes a flag for each option of a request. `schemas.requests.RequestOptions` declares the options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import cast

from serve_app.client.exchange import MAX_TIMEOUT_S
from serve_app.schemas.field_schemas import FieldSchema, field_schemas
from serve_app.schemas.requests import OptionArguments, RequestOptions

NO_DEFAULTS: Mapping[str, str] = MappingProxyType({})
EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "entities": "Example: --entities dog 'red sofa'.",
        "thresholds": "Example: --thresholds dog=0.3 'red sofa'=0.6.",
    }
)
"""Examples for the help, by the option's name."""


def add_flags(
    parser: argparse.ArgumentParser,
    title: str,
    without: Set[str] = frozenset(),
    defaults: Mapping[str, str] = NO_DEFAULTS,
) -> argparse._ArgumentGroup:
    """Declare a flag for each option of a request. Without the flag, the service's default applies.

    Args:
        parser: the command's parser.
        title: heading of these flags in the help.
        without: names of options that the command does not take.
        defaults: a sentence about the default, by option's name, for options with a default of this command's own.

    Returns:
        The group of these flags.
    """
    group = parser.add_argument_group(title)
    for name, schema in field_schemas(RequestOptions).items():
        if name not in without:
            text = f"{describe(schema, defaults.get(name))} {EXAMPLES.get(name, '')}".strip()
            _add_flag(group, name, schema, text.replace("%", "%%"))
    return group


def describe(schema: FieldSchema, default: str | None = None) -> str:
    """Return an option's description, with its default.

    Args:
        schema: the option's schema.
        default: a sentence about the default, used in place of the one in the description.

    >>> describe({"type": "string", "description": "How masks are sent.", "default": "rle"})
    'How masks are sent. Default: rle.'
    """
    text = schema.get("description", "")
    if default is not None:
        return f"{text.partition(' Default:')[0]} {default}"
    if schema.get("default") and "default" not in text.lower():
        return f"{text} Default: {schema['default']}."
    return text


def _add_flag(group: argparse._ArgumentGroup, name: str, schema: FieldSchema, description: str) -> None:
    flag = flag_of(name)
    match schema["type"]:
        case "boolean":
            switch = argparse.BooleanOptionalAction if schema.get("default") else "store_true"
            group.add_argument(flag, dest=name, action=switch, default=None, help=description)
        case "array":
            group.add_argument(flag, dest=name, nargs="+", action="extend", metavar="NAME", help=description)
        case "object":
            reader = _pair_of(schema["additionalProperties"])
            group.add_argument(
                flag, dest=name, type=reader, nargs="+", action=_Pairs, metavar="NAME=T", help=description
            )
        case "number" | "integer":
            metavar = "N" if schema["type"] == "integer" else "S" if name.endswith("_s") else "T"
            bounded: FieldSchema = {"maximum": MAX_TIMEOUT_S, **schema} if name.endswith("_s") else schema
            group.add_argument(flag, dest=name, type=number_of(bounded), metavar=metavar, help=description)
        case _:
            group.add_argument(flag, dest=name, choices=schema.get("enum"), help=description)


def flag_of(name: str) -> str:
    """Return an option's flag.

    >>> flag_of("mask_threshold"), flag_of("timeout_s")
    ('--mask-threshold', '--timeout')
    """
    return "--" + name.removesuffix("_s").replace("_", "-")


def given(args: argparse.Namespace) -> OptionArguments:
    """Return the options whose flags were given."""
    values = {name: getattr(args, name, None) for name in RequestOptions.model_fields}
    return cast(OptionArguments, {name: value for name, value in values.items() if value is not None})


def number_of(schema: FieldSchema) -> Callable[[str], float]:
    """Return a function that reads a number, for argparse.

    Args:
        schema: the option's schema, which has the range.

    Returns:
        The function. It raises ArgumentTypeError if the text is not a number in the range.
    """
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    above = schema.get("exclusiveMinimum", float("-inf"))
    convert = int if schema["type"] == "integer" else float
    wanted = f"between {low:g} and {high:g}"
    if high == float("inf"):
        wanted = "a positive number" if above == 0 else f"at least {low:g}"
    elif above > low:
        wanted = f"above {above:g} and at most {high:g}"

    def read(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            kind = "a whole number" if convert is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind}") from None
        if not (low <= value <= high and above < value < float("inf")):
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return value

    return read


def _pair_of(schema: FieldSchema) -> Callable[[str], tuple[str, float]]:
    read_number = number_of(schema)

    def read(text: str) -> tuple[str, float]:
        # Split at the last "=", because a name may contain one.
        name, equals, value = text.rpartition("=")
        if not (name and equals):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=NUMBER")
        return name, read_number(value)

    return read


class _Pairs(argparse.Action):
    """Collects NAME=NUMBER pairs in a mapping."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse passes it
        namespace: argparse.Namespace,
        values: str | Sequence[tuple[str, float]] | None,
        option_string: str | None = None,  # noqa: ARG002 - argparse passes it
    ) -> None:
        """Add the pairs of one flag. A name that is given twice is an error, as in the JSON of a request."""
        assert isinstance(values, list)
        pairs: dict[str, float] = dict(getattr(namespace, self.dest) or {})
        for name, value in values:
            if name in pairs:
                raise argparse.ArgumentError(self, f"{name!r} is given twice")
            pairs[name] = value
        setattr(namespace, self.dest, pairs)
