"""Lets the models be loaded where pydantic is missing, as on a bare machine with PyTorch and transformers.

The models read a configuration and check none of it. So classes that hold defaults and what is given are enough here;
nothing is validated. Where pydantic is installed this is not used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class BaseModel:
    """Holds fields: the class's defaults, or what is given."""

    def __init_subclass__(cls, **_: Any) -> None:
        """Take any class arguments."""

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no field {name}")
            setattr(self, name, value)


def field(default: Any = None, **_: Any) -> Any:
    """Stand for a field's default."""
    return default


def mark(*_: Any, **__: Any) -> Callable[[Any], Any]:
    """Stand for a validator, as an annotation's argument or as a decorator."""
    return lambda function: function


def install() -> None:
    """Put the names that the package imports into `sys.modules`."""
    errors = {name: type(name, (ValueError,), {}) for name in ("ValidationError", "PydanticCustomError")}
    shared = {"JsonValue": Any, "JsonSchemaValue": Any, "ErrorDetails": dict, "ConfigDict": dict, "Field": field}
    marks = ("AfterValidator", "BeforeValidator", "model_validator", "field_validator", "model_serializer")
    names = {"BaseModel": BaseModel, **errors, **shared, **dict.fromkeys(marks, mark)}
    for module_name in ("pydantic", "pydantic.json_schema", "pydantic_core"):
        module = ModuleType(module_name)
        module.__dict__.update(names)
        sys.modules[module_name] = module
