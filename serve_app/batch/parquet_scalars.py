"""Converts pyarrow's values to Python values, including those that Python cannot represent exactly."""

from __future__ import annotations

from typing import Any


def text_of_bytes(value: Any) -> Any:
    """Decode the bytes in a value as UTF-8 text, also inside lists and mappings.

    Raises:
        UnicodeDecodeError: they are not UTF-8.
    """
    match value:
        case bytes():
            return value.decode()
        case list():
            return [text_of_bytes(inner) for inner in value]
        case dict():
            return {text_of_bytes(key): text_of_bytes(inner) for key, inner in value.items()}
    return value


def as_python(array: Any) -> list[Any]:
    """Convert an array of pyarrow to Python values, with the same result whether or not pandas is installed.

    If pandas is installed, pyarrow returns pandas' classes for times with nanoseconds, and drops the nanoseconds of a
    time of day. So nanoseconds are converted to microseconds first.

    Raises:
        ValueError: a time has nanoseconds, or is out of Python's range.
        OverflowError: a time is out of Python's range.
        KeyError: a map has the same key twice.
    """
    import pyarrow

    kind = _in_microseconds(pyarrow, array.type)
    if kind != array.type:
        try:
            array = array.cast(kind)
        except pyarrow.ArrowInvalid:
            raise ValueError("Nanoseconds do not fit into Python's times") from None
    values: list[Any] = array.to_pylist(maps_as_pydicts="strict")
    return values


def _in_microseconds(pa: Any, kind: Any) -> Any:
    """Return the type with microseconds in place of nanoseconds, also inside lists, structs and maps."""
    of = pa.types
    if of.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if of.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if of.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if of.is_dictionary(kind):
        value = _in_microseconds(pa, kind.value_type)
        return kind if value == kind.value_type else value
    if of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind):
        value = _in_microseconds(pa, kind.value_type)
        return kind if value == kind.value_type else pa.list_(value)
    if of.is_struct(kind):
        fields = [field.with_type(_in_microseconds(pa, field.type)) for field in kind]
        return pa.struct(fields)
    if of.is_map(kind):
        return pa.map_(_in_microseconds(pa, kind.key_type), _in_microseconds(pa, kind.item_type))
    return kind


def written(scalar: Any) -> Any:
    """Convert a scalar of pyarrow to a Python value, with text for the parts that Python cannot represent.

    Times with nanoseconds and dates after the year 9999 become text. Text that is not UTF-8 becomes bytes. A map with
    such a part becomes a list of its pairs.

    Raises:
        ValueError: a struct has the same field twice.
    """
    import pyarrow

    if not scalar.is_valid:
        return None
    try:
        return as_python(pyarrow.array([scalar], scalar.type))[0]
    except (KeyError, ValueError, OverflowError, TypeError):  # TypeError: pyarrow's, for an empty list in a struct
        pass
    kind = scalar.type
    if isinstance(scalar, pyarrow.StructScalar):
        if len({field.name for field in kind}) < kind.num_fields:
            raise ValueError("names a key twice")
        return {field.name: written(scalar[index]) for index, field in enumerate(kind)}
    if isinstance(scalar, pyarrow.ListScalar):
        return [written(inner) for inner in scalar.values]
    if isinstance(scalar, pyarrow.StringScalar):
        return scalar.as_buffer().to_pybytes()
    if isinstance(scalar, pyarrow.DictionaryScalar | pyarrow.ExtensionScalar):
        return written(scalar.value)
    text = scalar.cast(pyarrow.string()).as_py()
    if pyarrow.types.is_timestamp(kind):
        return text.replace(" ", "T", 1) if text[:1].isdigit() else text
    if pyarrow.types.is_duration(kind):
        return int(text) / {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    return text
