"""Values of Parquet that Python has no exact value for."""

from __future__ import annotations

from typing import Any


def text_of_bytes(value: Any) -> Any:
    """Read the bytes in a value as text, also those in its lists and mappings.

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


def written(scalar: Any) -> Any:
    """Take a value of pyarrow as it is, but for the parts that Python cannot hold: these become their text.

    Such are times with nanoseconds, dates after the year 9999, and texts that are not UTF-8, which become bytes.

    Args:
        scalar: of pyarrow; a map with such a part becomes a list of its pairs.

    Raises:
        ValueError: it names something twice.
    """
    import pyarrow

    try:
        return scalar.as_py(maps_as_pydicts="strict")
    except (KeyError, ValueError, OverflowError):
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
