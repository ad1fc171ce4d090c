"""Checks a Ray Serve config: Ray's own schema in strict mode, and settings that Ray accepts but that fail later.

Ray is imported inside the functions, so that a file that holds only keys of `AppConfig` is checked without Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from serve_app.config.auth import auth_findings
from serve_app.config.devices import device_findings
from serve_app.config.findings import (
    Finding,
    Path,
    children,
    hint,
    model_at,
    nearest_of,
    non_finite,
    place_of,
    shown,
    validated,
)
from serve_app.config.policy import policy_findings
from serve_app.config.schema import AppConfig
from serve_app.config.strict_schema import strict_findings, value_at
from serve_app.config.user_config import SETTINGS, SegmenterSettings, Settings, settings_from

IMPORT_PATH = "serve_app.app:build"
DEFAULT_TARGET_ONGOING = 2.0  # Source: ray.serve.config.AutoscalingConfig.target_ongoing_requests
MAX_REPLICAS_PER_NODE = 100  # Source: ray.serve.schema.DeploymentSchema.max_replicas_per_node
MAX_PORT = 65535


def is_serve_config(document: object) -> bool:
    """Tell whether a document is a Serve config and not an AppConfig, also if the key `applications` is misspelt."""
    keys = {key for key, _ in children(document) if isinstance(key, str)}
    if keys <= set(AppConfig.model_fields):
        return False
    from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

    if any(key == "applications" or hint(key, ["applications"]) for key in keys):
        return True
    ray_keys = {*ServeDeploySchema.model_fields, *ServeApplicationSchema.model_fields}
    return keys.isdisjoint(AppConfig.model_fields) and not ray_keys.isdisjoint(keys)


def serve_findings(document: object) -> tuple[AppConfig | None, list[Finding]]:
    """Check a Serve config: Ray's schema, our deployments, `args` and `user_config`.

    Args:
        document: the file's mapping.

    Returns:
        The configuration of our first application with its deployments' `user_config` applied, or None if it has
        faults; and every finding.
    """
    from ray.serve.schema import ServeDeploySchema

    findings = [*number_findings(document)]
    config: AppConfig | None = None
    ours = 0
    for at, application in items_at(document, "applications"):
        found = [*application_findings(application)]
        if value_at(application, ("import_path",)) == IMPORT_PATH:
            ours += 1
            app, of_ours = our_findings(application)
            found += of_ours
            config = config if ours > 1 else app
        findings += [finding.under(at) for finding in found]
    findings += strict_findings(ServeDeploySchema, document, findings)
    if isinstance(value_at(document, ("applications",)), list) and not ours:
        findings.append(Finding(("applications",), f"no application has the import_path '{IMPORT_PATH}'"))
    return config, findings


def number_findings(document: object) -> Iterator[Finding]:
    """Yield numbers that Ray's schema accepts but that never work: infinity, NaN, and ports out of range."""
    for path, number in non_finite(document):
        if not {"args", "user_config"} & set(path):  # ours are checked elsewhere; other applications' may be infinite
            yield Finding(path, f"must be a finite number, got {number}")
    for section in ("http_options", "grpc_options"):
        port = value_at(document, (section, "port"))
        if is_number(port) and not 0 <= port <= MAX_PORT:
            yield Finding((section, "port"), f"must be between 0 and {MAX_PORT}, got {port}")


def application_findings(application: object) -> Iterator[Finding]:
    """Yield the faults of an application, ours or another, that Ray's schema does not find.

    They are in its route, its deployments and its environments.
    """
    if not isinstance(application, Mapping):
        return
    prefix = application.get("route_prefix", "/")
    if isinstance(prefix, str) and (not prefix.startswith("/") or (prefix != "/" and prefix.endswith("/"))):
        yield Finding(("route_prefix",), f"must start with '/' and not end with one, got {shown(prefix)}")
    yield from runtime_env_findings(application.get("runtime_env"), ("runtime_env",))
    names: list[object] = []
    for at, deployment in items_at(application, "deployments"):
        if not isinstance(deployment, Mapping):
            yield Finding(at, f"must be a mapping of keys, got {shown(deployment)}")
            continue
        name = deployment.get("name")
        names.append(name)
        if isinstance(name, str) and names.count(name) == 2:
            yield Finding((*at, "name"), f"the deployment '{name}' is listed twice")
        for finding in deployment_findings(deployment):
            yield finding.under(at)


def deployment_findings(deployment: object) -> Iterator[Finding]:
    """Yield settings of a deployment that Ray's schema accepts, but that fail later or have no effect."""
    per_node = value_at(deployment, ("max_replicas_per_node",))
    if is_number(per_node) and not 1 <= per_node <= MAX_REPLICAS_PER_NODE:
        text = f"must be between 1 and {MAX_REPLICAS_PER_NODE}, got {per_node}"
        yield Finding(("max_replicas_per_node",), text)
    gpus = value_at(deployment, ("ray_actor_options", "num_gpus"))
    if is_number(gpus) and gpus > 1 and gpus != int(gpus):
        text = f"must be a whole number if it is above 1, got {gpus}"
        yield Finding(("ray_actor_options", "num_gpus"), text)
    environment = ("ray_actor_options", "runtime_env")
    yield from runtime_env_findings(value_at(deployment, environment), environment)
    yield from autoscaling_findings(deployment)


def autoscaling_findings(deployment: object) -> Iterator[Finding]:
    """Yield the faults of an autoscaling_config. Ray's schema of a file accepts any mapping there."""
    from ray.serve.config import AutoscalingConfig

    given = value_at(deployment, ("autoscaling_config",))
    if not isinstance(given, Mapping):
        return
    # The policy is left out, because the schema would import it, and raise if that fails.
    for finding in strict_findings(AutoscalingConfig, {key: given[key] for key in given if key != "policy"}, []):
        yield finding.under(("autoscaling_config",))
    if "policy" in given:
        for finding in policy_findings(given["policy"]):
            yield finding.under(("autoscaling_config", "policy"))
    target = given.get("target_ongoing_requests", DEFAULT_TARGET_ONGOING)
    slots = value_at(deployment, ("max_ongoing_requests",))
    if is_number(slots) and is_number(target) and slots < target:
        text = (
            f"{slots} is below autoscaling_config.target_ongoing_requests ({target:g}), "
            "so the deployment never scales up"
        )
        yield Finding(("max_ongoing_requests",), text)


def runtime_env_findings(value: object, path: Path) -> Iterator[Finding]:
    """Yield unknown keys of a runtime_env, and environment variables that are not text.

    Ray ignores such keys with a warning in its log, and refuses such variables only when it deploys.
    """
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


def our_findings(application: object) -> tuple[AppConfig | None, list[Finding]]:
    """Check our own application: its `args`, the names of its deployments and their `user_config`.

    Returns:
        The configuration with each `user_config` applied, or None if there are faults; and every finding.
    """
    args = value_at(application, ("args",)) or {}
    config, found = validated(AppConfig, args)
    findings = [finding.under(("args",)) for finding in found]
    auth = value_at(args, ("auth",))
    findings += [finding.under(("args", "auth")) for finding in auth_findings(auth, in_args=True)]
    settings: list[Settings | None] = []
    for at, deployment in items_at(application, "deployments"):
        name, user_config = value_at(deployment, ("name",)), value_at(deployment, ("user_config",))
        if not isinstance(name, str):
            continue
        meant = name if name in SETTINGS else nearest_of(name, SETTINGS)
        if name not in SETTINGS:
            findings.append(Finding((*at, "name"), f"unknown deployment '{name}'{hint(name, SETTINGS)}"))
        if meant is not None and user_config is not None:
            taken, found = validated(SETTINGS[meant], user_config)
            settings.append(taken)
            findings += [misplaced(meant, finding).under((*at, "user_config")) for finding in found]
            if config is not None and isinstance(taken, SegmenterSettings):
                findings += [finding.under((*at, "user_config")) for finding in taken.findings_for(config)]
    if config is not None:
        findings += [finding.under(("args",)) for finding in device_findings(config, gpus_of(application))]
    if config is None or findings:
        return None, findings
    return settings_from(config, *(each for each in settings if each)), []


def gpus_of(application: object) -> dict[str, float]:
    """Return the number of GPUs per replica of each deployment.

    Deployments without `ray_actor_options` in the file are left out.
    """
    found = {}
    for _, deployment in items_at(application, "deployments"):
        name, options = value_at(deployment, ("name",)), value_at(deployment, ("ray_actor_options",))
        if isinstance(name, str) and isinstance(options, Mapping):
            gpus = options.get("num_gpus", 0.0)
            found[name] = gpus if is_number(gpus) else 0.0
    return found


def misplaced(deployment: str, finding: Finding) -> Finding:
    """If an unknown key of a `user_config` is a key of AppConfig, say where it is allowed.

    Args:
        deployment: the deployment whose `user_config` has the key.
        finding: any finding about that `user_config`.

    Returns:
        A new finding for such a key; otherwise the same finding.
    """
    if not finding.on_key or not finding.path or finding.path[0] not in AppConfig.model_fields:
        return finding
    section, keys = str(finding.path[0]), finding.path[1:]
    whole = model_at(AppConfig, (section,))
    if keys and (whole is None or keys[0] not in whole.model_fields):
        return finding
    takers = [name for name, settings in SETTINGS.items() if takes(settings, section, *map(str, keys))]
    home = f"the user_config of {' and '.join(takers)}" if takers else "args (a change restarts the replicas)"
    setting = place_of(finding.path)
    return Finding(finding.path, f"'{setting}' is not a setting of {deployment}; it belongs in {home}", on_key=True)


def takes(settings: type[Settings], section: str, *keys: str) -> bool:
    """Tell whether a `user_config` takes a section, or a key of that section."""
    inner = model_at(settings, (section,))
    return inner is not None and all(key in inner.model_fields for key in keys)


def items_at(document: object, key: str) -> Iterator[tuple[Path, object]]:
    """Yield the items of the list under a key, each with its path; nothing if there is no list."""
    items = value_at(document, (key,))
    for index, item in enumerate(items if isinstance(items, list) else []):
        yield (key, index), item


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether a value is a finite number; `true` is not one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
