"""Build the Serve application: `build` checks the configuration and binds the three deployments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from serve_app.config.auth import auth_findings
from serve_app.config.devices import GPU_SHARE, PARSER, SEGMENTER, auto_warning, devices_of
from serve_app.config.files import app_config_from
from serve_app.config.findings import place_of
from serve_app.config.schema import AppConfig
from serve_app.errors import ConfigError
from serve_app.models.interface import IdentityModel, Parser, Segmenter
from serve_app.models.registry import load_identity, load_parser, load_segmenter
from serve_app.serving.gpus import cluster_gpus, is_autoscaled, on_assigned_device
from serve_app.serving.ingress import Ingress
from serve_app.serving.parser import ParserDeployment
from serve_app.serving.segmenter import SegmenterDeployment

logger = logging.getLogger("ray.serve")

ServeOptions = Mapping[str, Any]
"""Keyword arguments of Ray Serve's `Deployment.options`."""

APP_NAME = "segmentation"
INGRESS = "Ingress"
"""The name of the ingress deployment, in Serve configs too."""
ACCEPTED_PER_ADMITTED = 4
"""An ingress replica accepts `max_concurrent_requests` calls, times this number, at the same time. It admits
`max_concurrent_requests` of them; the others get a 429."""
SPARE_SLOTS = 64
"""Additional slots in each ingress replica, for /healthz and /readyz."""
MAX_FAILED_STARTS = 20
"""Ray's own default. A replica that failed to start is tried again, because a later start may succeed: the weights may
still be copied, or a node was lost."""


def build(args: dict[str, Any]) -> Application:
    """Check the configuration and bind the three deployments.

    Args:
        args: the configuration, as `args:` of a Serve config gives it.

    Returns:
        The application. A Serve config may override its deployments' options (GPU fractions, autoscaling, …).

    Raises:
        ConfigError: a key is wrong (the message names every wrong key), or `auth` has no token, or has tokens in `args`
            (see auth_findings).
    """
    config = app_config_from(args)
    for finding in auth_findings(args.get("auth"), in_args=True):
        raise ConfigError(f"{place_of(('auth', *finding.path))}: {finding.message}")
    return bind(config)


def bind(
    config: AppConfig,
    options: Mapping[str, ServeOptions] | None = None,
    *,
    load_parser: Callable[[AppConfig], Parser] = load_parser,
    load_segmenter: Callable[[AppConfig], Segmenter[Any, Any, Any]] = load_segmenter,
    load_identity: Callable[[AppConfig], IdentityModel | None] = load_identity,
) -> Application:
    """Bind the three deployments for a checked configuration.

    Args:
        config: the whole configuration.
        options: Serve options by deployment name; they override the defaults. Callers without a Serve config use this.
        load_parser: loads the parser, inside its replicas.
        load_segmenter: loads the segmenter, inside its replicas.
        load_identity: loads the identity model, inside the segmenter's replicas; returns None if none is configured.

    Returns:
        The application, ready for `serve.run`.
    """
    resources = default_actor_options(config, cluster_gpus())
    overrides = options or {}
    actor_options = {
        name: overrides.get(name, {}).get("ray_actor_options") or default for name, default in resources.items()
    }
    _warn_of_auto(config, {name: used.get("num_gpus") or 0 for name, used in actor_options.items()})
    defaults = _default_options(config, resources)

    def deployment(name: str, cls: type) -> Any:
        # Typed Any, because Ray annotates `serve.deployment(cls)` as returning a decorator. It returns a Deployment.
        unbound: Any = serve.deployment(cls)
        return unbound.options(**defaults[name]).options(**overrides.get(name, {}))

    parser = deployment(PARSER, ParserDeployment).bind(config, on_assigned_device(load_parser))
    segmenter = deployment(SEGMENTER, SegmenterDeployment).bind(
        config, on_assigned_device(load_segmenter), load_identity=on_assigned_device(load_identity)
    )
    application: Application = deployment(INGRESS, serve.ingress()(Ingress)).bind(config, parser, segmenter)
    return application


def _default_options(config: AppConfig, resources: Mapping[str, Mapping[str, float]]) -> dict[str, ServeOptions]:
    """Return the Serve options of each deployment, by its name; a Serve config overrides them."""
    admitted = config.serving.max_concurrent_requests
    common = {
        # A stopping ingress first finishes its requests. The models' replicas get the same time, because these requests
        # need them.
        "graceful_shutdown_timeout_s": config.serving.timeout_s + 10,
        "max_constructor_retry_count": config.serving.max_failed_starts or MAX_FAILED_STARTS,
    }
    by_deployment: dict[str, ServeOptions] = {
        PARSER: {"max_ongoing_requests": 64, "max_queued_requests": 4 * admitted},
        SEGMENTER: {
            "request_router_config": {"request_router_class": "serve_app.serving.routing.ImageAffinityRouter"},
            # High, because an image holds its slot while its prompt is parsed, and Serve pauses before it tries a full
            # replica again.
            "max_ongoing_requests": 128,
            "max_queued_requests": admitted * config.limits.max_images,
        },
        INGRESS: {
            "request_router_config": {"request_router_class": "serve_app.serving.routing.IngressRouter"},
            # More calls than the ingress admits, so that callers get this service's own 429 and /healthz still gets a
            # slot. If the queue is full too, Ray answers with its own 503.
            "max_ongoing_requests": ACCEPTED_PER_ADMITTED * admitted + SPARE_SLOTS,
            "max_queued_requests": 64,
            "backpressure_config": {"retry_after_s": config.serving.retry_after_s},
        },
    }
    return {
        name: {**common, **options, "ray_actor_options": resources[name]} for name, options in by_deployment.items()
    }


def default_actor_options(config: AppConfig, gpus: float) -> dict[str, dict[str, float]]:
    """Return the CPUs and GPUs that each deployment requests if the Serve config does not say.

    A model whose device is `auto` uses a GPU if there is one, so it requests a share of a GPU if the cluster has one.
    Without the request, the process would still see all GPUs, and Ray would assign the same GPU to other processes.

    Args:
        config: the whole configuration.
        gpus: how many GPUs Ray knows of in the whole cluster.

    Returns:
        Ray's actor options by deployment name.
    """
    devices = devices_of(config)

    def model(deployment: str) -> dict[str, float]:
        _, device = devices.get(deployment, ((), "cpu"))
        on_gpu = device.startswith("cuda") or (device == "auto" and gpus > 0)
        return {"num_cpus": 0.5, "num_gpus": GPU_SHARE if on_gpu else 0.0}

    return {INGRESS: {"num_cpus": 0.25}, PARSER: model(PARSER), SEGMENTER: model(SEGMENTER)}


def _warn_of_auto(config: AppConfig, num_gpus: Mapping[str, float]) -> None:
    """Warn that `auto` stays on the CPU, if the cluster has no GPU now and an autoscaler may add one later."""
    warning = auto_warning(config, num_gpus)
    if warning is not None and is_autoscaled():
        logger.warning(warning)
