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
from serve_app.serving.gpus import cluster_gpus, is_autoscaled, on_lent_device
from serve_app.serving.ingress import Ingress
from serve_app.serving.parser import ParserDeployment
from serve_app.serving.segmenter import SegmenterDeployment

logger = logging.getLogger("ray.serve")

ServeOptions = Mapping[str, Any]
"""Keyword arguments of Ray Serve's `Deployment.options`."""

APP_NAME = "segmentation"
INGRESS = "Ingress"
"""The name of the ingress deployment, in Serve configs too."""
ANSWERED = 4
"""The ingress answers this many times `max_concurrent_requests` at once; those that it does not admit get a 429."""
SPARE_SLOTS = 64
"""Additional slots in each ingress replica, for /healthz and /readyz."""
MAX_FAILED_STARTS = 20
"""Ray's own default. On a cluster a later start may succeed: weights are still being copied, or a node was lost."""


def build(args: dict[str, Any]) -> Application:
    """Bind the graph.

    Args:
        args: the configuration, as `args:` of a Serve config gives it.

    Returns:
        The application; its deployments' own options (GPU fractions, autoscaling, …) come from the Serve config.

    Raises:
        ConfigError: a key is wrong (the message names every wrong one), or `auth` is (see auth_findings).
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
    """Bind the graph for a checked configuration.

    Args:
        config: the whole configuration.
        options: Serve options by deployment name; they override the defaults set here. For callers without a Serve
            config.
        load_parser: loads the parser, inside its replicas.
        load_segmenter: loads the segmenter, inside its replicas.
        load_identity: loads the identity model, inside the segmenter's replicas; returns None if none is configured.

    Returns:
        The application, ready for `serve.run`.
    """
    resources = default_actor_options(config, cluster_gpus())
    given = options or {}
    actors = {name: given.get(name, {}).get("ray_actor_options") or each for name, each in resources.items()}
    _warn_of_auto(config, {name: each.get("num_gpus") or 0 for name, each in actors.items()})
    defaults = _default_options(config, resources)

    def deployment(name: str, kind: type) -> Any:
        # Ray annotates the undecorated form of `serve.deployment` as a decorator.
        decorated: Any = serve.deployment(kind)
        return decorated.options(**defaults[name]).options(**given.get(name, {}))

    parser = deployment(PARSER, ParserDeployment).bind(config, on_lent_device(load_parser))
    segmenter = deployment(SEGMENTER, SegmenterDeployment).bind(
        config, on_lent_device(load_segmenter), load_identity=on_lent_device(load_identity)
    )
    application: Application = deployment(INGRESS, serve.ingress()(Ingress)).bind(config, parser, segmenter)
    return application


def _default_options(config: AppConfig, resources: Mapping[str, Mapping[str, float]]) -> dict[str, ServeOptions]:
    """Return the Serve options of each deployment, by its name; a Serve config overrides them."""
    admitted = config.serving.max_concurrent_requests
    common = {
        # A stopping replica finishes its requests first. The models' replicas get the same time, since they work for
        # them.
        "graceful_shutdown_timeout_s": config.serving.timeout_s + 10,
        "max_constructor_retry_count": config.serving.max_failed_starts or MAX_FAILED_STARTS,
    }
    special: dict[str, ServeOptions] = {
        PARSER: {"max_ongoing_requests": 64, "max_queued_requests": 4 * admitted},
        SEGMENTER: {
            "request_router_config": {"request_router_class": "serve_app.serving.routing.ImageAffinityRouter"},
            # An image holds its slot while the prompt is still being parsed. Serve retries a full replica with pauses.
            "max_ongoing_requests": 128,
            "max_queued_requests": admitted * config.limits.max_images,
        },
        INGRESS: {
            "request_router_config": {"request_router_class": "serve_app.serving.routing.IngressRouter"},
            # More than are admitted, so that callers get this service's own 429 and /healthz still gets a slot. Once
            # the queue is full too, Ray answers with its own 503.
            "max_ongoing_requests": ANSWERED * admitted + SPARE_SLOTS,
            "max_queued_requests": 64,
            "backpressure_config": {"retry_after_s": config.serving.retry_after_s},
        },
    }
    return {name: {**common, **own, "ray_actor_options": resources[name]} for name, own in special.items()}


def default_actor_options(config: AppConfig, cluster_gpus: float) -> dict[str, dict[str, float]]:
    """Return the CPUs and GPUs that each deployment requests if the Serve config does not say.

    A model whose device is `auto` uses a GPU if there is one, so it requests a share if the cluster has any. It must:
    Ray hides no GPU from a process that requested none, and would assign the same GPU to other processes.

    Args:
        config: the whole configuration.
        cluster_gpus: how many GPUs Ray knows of.

    Returns:
        Ray's actor options by deployment name.
    """
    devices = devices_of(config)

    def model(deployment: str) -> dict[str, float]:
        _, device = devices.get(deployment, ((), "cpu"))
        on_gpu = device.startswith("cuda") or (device == "auto" and cluster_gpus > 0)
        return {"num_cpus": 0.5, "num_gpus": GPU_SHARE if on_gpu else 0.0}

    return {INGRESS: {"num_cpus": 0.25}, PARSER: model(PARSER), SEGMENTER: model(SEGMENTER)}


def _warn_of_auto(config: AppConfig, num_gpus: Mapping[str, float]) -> None:
    """Log what `auto` means if Ray has no GPU now and an autoscaler may add some."""
    warning = auto_warning(config, num_gpus)
    if warning is not None and is_autoscaled():
        logger.warning(warning)
