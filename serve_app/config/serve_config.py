"""The Ray Serve part of a configuration: what Ray itself takes in silence and acts on late, or never.

Ray ignores misspelt keys at the top level, in a deployment and in `ray_actor_options`, and takes some numbers that can
never work. Ray's own schema is imported on use only, so that a file without `applications:` needs no Ray.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from serve_app.config.auth import auth_findings
from serve_app.config.findings import (
    Finding,
    Path,
    children,
    finding_of,
    hint,
    nearest_of,
    shown,
    submodel,
    unknown_key,
    validated,
)
from serve_app.config.schema import AppConfig
from serve_app.config.user_config import IngressSettings, ParserSettings, SegmenterSettings, Settings, settings_from

IMPORT_PATH = "serve_app.app:build"
SETTINGS: dict[str, type[Settings]] = {
    "Ingress": IngressSettings,
    "SegmenterDeployment": SegmenterSettings,
    "ParserDeployment": ParserSettings,
}
DEFAULT_TARGET_ONGOING = 2.0  # Source: ray.serve.config.AutoscalingConfig.target_ongoing_requests
MAX_REPLICAS_PER_NODE = 100  # Source: ray.serve.schema.DeploymentSchema.max_replicas_per_node
MAX_PORT = 65535


def is_serve_config(document: Mapping[Any, Any]) -> bool:
    """Tell a Serve config from a file of our own, also where `applications` itself is misspelt."""
    keys = [key for key in document if isinstance(key, str)]
    if set(keys) <= set(AppConfig.model_fields):
        return False
    from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

    if any(key == "applications" or hint(key, ["applications"]) for key in keys):
        return True
    ray_keys = {*ServeDeploySchema.model_fields, *ServeApplicationSchema.model_fields}
    return not set(keys) & set(AppConfig.model_fields) and not ray_keys.isdisjoint(keys)


def serve_findings(document: Mapping[Any, Any]) -> tuple[AppConfig | None, list[Finding]]:
    """Check a Serve config: Ray's schema, our deployments, `args` and `user_config`.

    Args:
        document: the file's mapping.

    Returns:
        The configuration of our first application, with its deployments' user_config drawn in (None if it is wrong),
        and every finding.
    """
    from ray.serve.schema import ServeDeploySchema

    applications = list(mappings_at(document, "applications"))
    findings = [*shape_findings(ServeDeploySchema, document), *port_findings(document)]
    for at, application in applications:
        findings += [finding.under(at) for finding in application_findings(application)]
    findings += ray_findings(ServeDeploySchema, document, findings)
    config: AppConfig | None = None
    ours = 0
    for at, application in applications:
        if application.get("import_path") == IMPORT_PATH:
            ours += 1
            app, found = our_findings(application)
            findings += [finding.under(at) for finding in found]
            config = config if ours > 1 else app
    if isinstance(document.get("applications"), list) and not ours:
        findings.append(Finding(("applications",), f"no application has the import_path '{IMPORT_PATH}'"))
    return config, findings


def shape_findings(model: type[BaseModel], value: Any, path: Path = ()) -> Iterator[Finding]:
    """Yield what Ray's models let pass: unknown keys, and `true`, text or infinity where a number belongs."""
    if not isinstance(value, Mapping):
        yield Finding(path, f"must be a mapping of keys, got {shown(value)}")
        return
    for key, inner in value.items():
        field = model.model_fields.get(key)
        here = (*path, key)
        if field is None:
            finding = unknown_key((key,), model)
            yield Finding(here, finding.message, on_key=True)
            continue
        kinds = kinds_of(field.annotation)
        nested = submodel(field.annotation)
        if inner is None and type(None) in kinds:
            continue
        if list in kinds and not isinstance(inner, list):
            yield Finding(here, f"must be a list, got {shown(inner)}")
        elif nested and not {str, int, float} & kinds:
            items = children(inner) if list in kinds else [(None, inner)]
            for index, item in items:
                yield from shape_findings(nested, item, here if index is None else (*here, index))
        elif {int, float} & kinds and (text := number_fault(inner, kinds)):
            yield Finding(here, text)


def kinds_of(annotation: object) -> set[object]:
    """Return the plain types of an annotation: `Optional[List[Model]]` gives {list, Model, NoneType}."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin in {list, dict}:
        inner = arguments[:1] if origin is list else ()
        return {origin}.union(*(kinds_of(argument) for argument in inner if submodel(argument)))
    if not arguments:
        return {annotation}
    return set().union(*(kinds_of(argument) for argument in arguments))


def number_fault(value: object, kinds: set[object]) -> str | None:
    """Say why a value is no number where Ray wants one (and perhaps text or true/false too); None if it is one."""
    if isinstance(value, str) and str not in kinds:
        return f"must be a number, got {shown(value)}"
    if isinstance(value, bool) and bool not in kinds:
        return f"must be a number, got {shown(value)}"
    if isinstance(value, float) and not abs(value) < float("inf"):
        return f"must be a finite number, got {value}"
    return None


def ray_findings(model: type[BaseModel], document: Mapping[Any, Any], known: list[Finding]) -> list[Finding]:
    """Return what Ray's own validation says, in our words and without what is known already.

    Its validators trust the shape of what they get and some write into it: they get a copy without the known faults.
    """
    seen = {finding.path for finding in known}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.model_validate(without(document, seen))
    except ValidationError as error:
        found = [(entry, finding_of(entry, model)) for entry in error.errors(include_url=False)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return [Finding((), f"Ray refuses this file: {error}")]
    else:
        return []
    findings: list[Finding] = []
    for entry, finding in found:
        place = existing(finding.path, document)
        dropped = entry["type"] == "missing" and any(path[: len(entry["loc"])] == entry["loc"] for path in seen)
        if place not in seen and not dropped:
            seen.add(place)
            findings.append(Finding(place, finding.message))
    return findings


def without(value: Any, paths: Set[Path], path: Path = ()) -> Any:
    """Copy a document, leaving out the values at some places; a list that holds one is left out as a whole."""
    if isinstance(value, Mapping):
        kept = {key: inner for key, inner in value.items() if not cuts(inner, paths, (*path, key))}
        return {key: without(inner, paths, (*path, key)) for key, inner in kept.items()}
    if isinstance(value, list):
        return [without(inner, paths, (*path, index)) for index, inner in enumerate(value)]
    return value


def cuts(value: Any, paths: Set[Path], path: Path) -> bool:
    """Tell whether a value is among the places, or is a list with an item among them."""
    items = range(len(value)) if isinstance(value, list) else range(0)
    return path in paths or any((*path, index) in paths for index in items)


def existing(path: Path, document: Any) -> Path:
    """Cut a path where the document ends: pydantic's paths go on into the branches of a union."""
    for depth, part in enumerate(path):
        inner = dict(children(document))
        if part not in inner:
            return path[:depth]
        document = inner[part]
    return path


def port_findings(document: Mapping[Any, Any]) -> Iterator[Finding]:
    """Yield ports that no socket has; Ray notices when it binds them."""
    for section in ("http_options", "grpc_options"):
        port = value_at(document, (section, "port"))
        if isinstance(port, int) and not isinstance(port, bool) and not 0 <= port <= MAX_PORT:
            yield Finding((section, "port"), f"must be between 0 and {MAX_PORT}, got {port}")


def application_findings(application: Mapping[Any, Any]) -> Iterator[Finding]:
    """Yield the faults of any application: its route, repeated deployments, numbers that never work."""
    prefix = application.get("route_prefix", "/")
    if isinstance(prefix, str) and (not prefix.startswith("/") or (prefix != "/" and prefix.endswith("/"))):
        yield Finding(("route_prefix",), f"must start with '/' and not end with one, got {shown(prefix)}")
    yield from runtime_env_findings(application.get("runtime_env"), ("runtime_env",))
    seen: Counter[Any] = Counter()
    for at, deployment in mappings_at(application, "deployments"):
        name = deployment.get("name")
        if isinstance(name, str):
            seen[name] += 1
            if seen[name] == 2:
                yield Finding((*at, "name"), f"the deployment '{name}' is listed twice")
        for finding in deployment_findings(deployment):
            yield finding.under(at)


def deployment_findings(deployment: Mapping[Any, Any]) -> Iterator[Finding]:
    """Yield the numbers of one deployment that Ray takes and that can never work, or refuses for another reason."""
    for path, rule in RULES.items():
        value = value_at(deployment, path)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and (text := rule(value)):
            yield Finding(path, f"{text}, got {shown(value)}")
    replicas = deployment.get("num_replicas")
    if not isinstance(replicas, int) and replicas not in (None, "auto"):
        yield Finding(("num_replicas",), f"must be a whole number or 'auto', got {shown(replicas)}")
    elif type(replicas) is int and deployment.get("autoscaling_config") is not None:
        yield Finding(("num_replicas",), "must be left out, or 'auto', where autoscaling_config is given", on_key=True)
    environment = ("ray_actor_options", "runtime_env")
    yield from runtime_env_findings(value_at(deployment, environment), environment)
    yield from autoscaling_findings(deployment)


def _gpu_fault(value: float) -> str | None:
    return None if value < 1 or value == int(value) else "above 1 must be a whole number of GPUs"


def _queue_fault(value: float) -> str | None:
    return None if value == -1 or value >= 1 else "must be -1 (no bound) or at least 1"


def _per_node_fault(value: float) -> str | None:
    return None if 1 <= value <= MAX_REPLICAS_PER_NODE else f"must be between 1 and {MAX_REPLICAS_PER_NODE}"


RULES: dict[Path, Callable[[float], str | None]] = {
    ("ray_actor_options", "num_gpus"): _gpu_fault,
    ("max_queued_requests",): _queue_fault,
    ("max_replicas_per_node",): _per_node_fault,
}


def autoscaling_findings(deployment: Mapping[Any, Any]) -> Iterator[Finding]:
    """Yield the faults of an autoscaling_config; Ray's file schema takes any mapping there."""
    from ray.serve.config import AutoscalingConfig

    given = deployment.get("autoscaling_config")
    if not isinstance(given, Mapping):
        return
    numbers = {key: value for key, value in given.items() if key != "policy" and key in AutoscalingConfig.model_fields}
    shapes = {finding.path for finding in shape_findings(AutoscalingConfig, numbers)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            AutoscalingConfig.model_validate({key: value for key, value in numbers.items() if (key,) not in shapes})
    except ValidationError as error:
        for entry in error.errors(include_url=False):
            yield finding_of(entry, AutoscalingConfig).under(("autoscaling_config",))
    target = numbers.get("target_ongoing_requests", DEFAULT_TARGET_ONGOING)
    slots = deployment.get("max_ongoing_requests")
    if isinstance(slots, int) and isinstance(target, int | float) and slots < target:
        yield Finding(
            ("max_ongoing_requests",),
            f"{slots} is below autoscaling_config.target_ongoing_requests ({target:g}): no scaling ever",
        )


def runtime_env_findings(value: object, path: Path) -> Iterator[Finding]:
    """Yield unknown keys of a runtime_env and environment variables that are not text; Ray fails on them at start."""
    if not isinstance(value, Mapping):
        return
    from ray.runtime_env import RuntimeEnv

    known = [name for name in RuntimeEnv.known_fields if not name.startswith("_")]
    for key in value:
        if key not in RuntimeEnv.known_fields:
            yield Finding((*path, key), f"unknown key '{key}'{hint(str(key), known)}", on_key=True)
    variables = value.get("env_vars")
    for name, text in variables.items() if isinstance(variables, Mapping) else ():
        if not isinstance(text, str):
            yield Finding((*path, "env_vars", name), f"must be text (put it in quotes), got {shown(text)}")


def our_findings(application: Mapping[Any, Any]) -> tuple[AppConfig | None, list[Finding]]:
    """Check our own application: its args, its deployments' names and their user_config."""
    args = application.get("args") or {}
    config, found = validated(AppConfig, args)
    findings = [finding.under(("args",)) for finding in found]
    if isinstance(args, Mapping):
        findings += [finding.under(("args", "auth")) for finding in auth_findings(args.get("auth"), in_args=True)]
    settings: dict[str, Any] = {}
    for at, deployment in mappings_at(application, "deployments"):
        name = deployment.get("name")
        if not isinstance(name, str):
            continue
        meant = name if name in SETTINGS else nearest_of(name, SETTINGS)
        if name not in SETTINGS:
            findings.append(Finding((*at, "name"), f"unknown deployment '{name}'{hint(name, SETTINGS)}"))
        if meant is not None and deployment.get("user_config") is not None:
            settings[meant], found = validated(SETTINGS[meant], deployment["user_config"])
            findings += [misplaced(meant, finding).under((*at, "user_config")) for finding in found]
    if config is None or findings:
        return None, findings
    return settings_from(config, *(settings.get(name) for name in SETTINGS)), []


def misplaced(deployment: str, finding: Finding) -> Finding:
    """Say where a section belongs that this deployment's user_config does not take."""
    section = finding.path[0] if len(finding.path) == 1 and finding.on_key else None
    if section not in AppConfig.model_fields:
        return finding
    takers = [name for name, settings in SETTINGS.items() if section in settings.model_fields]
    home = f"the user_config of {' and '.join(takers)}" if takers else "args (a change restarts the replicas)"
    return Finding(finding.path, f"'{section}' is no setting of {deployment}; it belongs in {home}", on_key=True)


def mappings_at(document: Mapping[Any, Any], key: str) -> Iterator[tuple[Path, Mapping[Any, Any]]]:
    """Yield the items of the list under a key that are mappings, each with its place."""
    items = document.get(key)
    for index, item in enumerate(items if isinstance(items, list) else []):
        if isinstance(item, Mapping):
            yield (key, index), item


def value_at(document: Any, path: Path) -> Any:
    """Return the value at a path of keys, or None where the path leads nowhere."""
    for part in path:
        document = document.get(part) if isinstance(document, Mapping) else None
    return document
