"""Checks the autoscaling policy of a Serve config.

Ray's schema imports a policy when it reads the file, and shows a traceback if that fails. So this module imports the
policy first, and creates an instance if the policy is a class, as the Serve controller does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module

from pydantic import JsonValue

from serve_app.config.findings import Finding, hint, shown

KEYS = ("policy_function", "policy_kwargs")  # Source: ray.serve.config.AutoscalingPolicy


def policy_findings(policy: object) -> Iterator[Finding]:
    """Yield the faults of a policy.

    Args:
        policy: the value of `autoscaling_config.policy`.
    """
    if not isinstance(policy, Mapping):
        yield Finding((), f"must be a mapping of keys, got {shown(policy)}")
        return
    yield from _key_findings(policy)
    if "policy_function" in policy:
        yield from _function_findings(policy["policy_function"], policy.get("policy_kwargs", {}))


def _key_findings(policy: Mapping[str, JsonValue]) -> Iterator[Finding]:
    """Yield unknown keys, and arguments that are not a mapping."""
    for key in policy:
        if key not in KEYS:
            yield Finding((key,), f"unknown key '{key}'{hint(str(key), KEYS)}", on_key=True)
    kwargs = policy.get("policy_kwargs", {})
    if not isinstance(kwargs, Mapping):
        yield Finding(("policy_kwargs",), f"must be a mapping of keys, got {shown(kwargs)}")


def _function_findings(path: object, kwargs: object) -> Iterator[Finding]:
    """Yield why a policy cannot be imported, or why its class does not take the arguments."""
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.replace(":", ".").split(".")):
        yield Finding(("policy_function",), f"must be of the form module:name, got {shown(path)}")
        return
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        names = vars(import_module(module))
    except Exception as error:
        yield Finding(("policy_function",), f"'{module}' cannot be imported: {error}")
        return
    if not callable(names.get(name)):
        yield Finding(("policy_function",), f"'{module}' has no policy '{name}'{hint(name, names)}")
    elif inspect.isclass(names[name]) and isinstance(kwargs, Mapping):
        for finding in argument_findings(names[name], kwargs):
            yield finding.under(("policy_kwargs",))


def argument_findings(policy: type, kwargs: Mapping[str, JsonValue]) -> Iterator[Finding]:
    """Yield the arguments that a policy's class does not know, and its error if the known ones have wrong values."""
    try:
        known = inspect.signature(policy).parameters
    except ValueError:  # a class that is written in C
        yield Finding((), f"{policy.__name__} does not say which arguments it takes")
        return
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    unknown = [] if takes_any else [key for key in kwargs if key not in known]
    for key in unknown:
        yield Finding((key,), f"unknown key '{key}'{hint(str(key), known)}", on_key=True)
    try:
        policy(**{str(key): value for key, value in kwargs.items() if key not in unknown})
    except Exception as error:
        yield Finding((), f"is refused by {policy.__name__}: {error}")
