"""The Grafana dashboard, as data: panels of the service's own metrics, and of Ray's metrics that help to explain them.

`python cluster/generate.py` writes it to cluster/monitoring/dashboard.json. Ray exports a metric of the service under
its own name with `ray_` in front; every series carries `application` and `deployment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

APP = 'application="$application"'
WINDOW = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """One graph: its title, a description for the reader, the unit of its axis, and (expression, legend) pairs."""

    title: str
    description: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def rate(metric: str, by: str = "") -> str:
    """Return a per-second rate of a counter, summed, by one label if one is given."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{APP}}}[{WINDOW}]))"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """Return a quantile of a histogram, by one label if one is given."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{{{APP}}}[{WINDOW}])))"


def mean(histogram: str, by: str) -> str:
    """Return the mean of a histogram's observations, by one label."""
    return f"{rate(f'{histogram}_sum', by)} / {rate(f'{histogram}_count', by)}"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel(
            "Requests per second",
            "Answers by status. 429 and 503 are load that was refused; they need more replicas, not repairs.",
            "reqps",
            ((rate("ray_genseg_requests_total", "status"), "{{status}}"),),
        ),
        Panel(
            "Time to the answer",
            "All routes; of the requests that were answered in the window.",
            "s",
            tuple((quantile(share, "ray_genseg_request_seconds"), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
        ),
        Panel(
            "Refusals and retries",
            "Refusals by code, and work repeated because a replica died.",
            "ops",
            (
                (rate("ray_genseg_rejections_total", "code"), "{{code}}"),
                (rate("ray_genseg_retries_total", "stage"), "retry: {{stage}}"),
            ),
        ),
        Panel(
            "Images and objects per second",
            "Segmented images, and objects found in them.",
            "ops",
            ((rate("ray_genseg_images_total"), "images"), (rate("ray_genseg_objects_total"), "objects")),
        ),
    ),
    "Where the time goes": (
        Panel(
            "Stages, p95",
            "parse: parser; decode, encode, detect, masks, and for verdicts crops and identity: segmenter. encode, "
            "detect and identity include the wait for a batch.",
            "s",
            ((quantile(0.95, "ray_genseg_stage_seconds", "stage"), "{{stage}}"),),
        ),
        Panel(
            "Mean batch size",
            "Near the budget of its axis (images: max_pixels, pairs: max_pairs, prompts: max_prompts, crops: 32), the "
            "GPU is full. If it is near 1 under load, look at the stages before it.",
            "short",
            ((mean("ray_genseg_batch_size", "axis"), "{{axis}}"),),
        ),
        Panel(
            "Waiting work",
            "If a queue keeps growing, the deployment that takes from it needs more replicas.",
            "short",
            (
                (f"sum by (queue) (ray_genseg_queue_length{{{APP}}})", "{{queue}}"),
                (f"sum by (deployment) (ray_serve_deployment_queued_queries{{{APP}}})", "Ray: {{deployment}}"),
            ),
        ),
    ),
    "Caches": (
        Panel(
            "Hit rate",
            "Of the lookups in the window.",
            "percentunit",
            (
                (
                    f"{rate('ray_genseg_cache_hits_total', 'cache')} / ({rate('ray_genseg_cache_hits_total', 'cache')}"
                    f" + {rate('ray_genseg_cache_misses_total', 'cache')})",
                    "{{cache}}",
                ),
            ),
        ),
        Panel(
            "Bytes held",
            "Summed over replicas. A full cache stays at its bound.",
            "bytes",
            ((f"sum by (cache) (ray_genseg_cache_bytes{{{APP}}})", "{{cache}}"),),
        ),
    ),
    "Replicas and machines": (
        Panel(
            "Replicas",
            "Healthy replicas by deployment, and the number that the autoscaling asks for before Ray's bounds.",
            "short",
            (
                (f"sum by (deployment) (ray_serve_deployment_replica_healthy{{{APP}}})", "{{deployment}}"),
                (f"sum by (deployment) (ray_serve_autoscaling_desired_replicas{{{APP}}})", "wanted: {{deployment}}"),
            ),
        ),
        Panel(
            "Load of a replica",
            "Mean over the replicas. device: share of the time in which the model runs. full passes: share that the "
            "same work would take in full batches; the autoscaling counts this and threads (decoding, masks). calls: "
            "calls of a parser to its server that have not ended.",
            "short",
            (
                (
                    f"avg by (deployment, of) (rate(ray_genseg_busy_seconds{{{APP}}}[{WINDOW}]))",
                    "{{deployment}}: {{of}}",
                ),
            ),
        ),
        Panel(
            "GPU busy",
            "By node and GPU, 0 to 100. If it is low while work waits, add cores: the GPU waits for "
            "decoding or the network.",
            "percent",
            (("ray_node_gpus_utilization", "{{ip}} {{GpuIndex}}"),),
        ),
        Panel(
            "GPU memory",
            "By node and GPU; Ray reports mebibytes.",
            "mbytes",
            (("ray_node_gram_used", "{{ip}} {{GpuIndex}}"),),
        ),
        Panel(
            "Object store in use",
            "Images are here until their requests are answered.",
            "bytes",
            (("sum by (NodeAddress) (ray_object_store_used_memory)", "{{NodeAddress}}"),),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
            }
        )
        width = 24 // len(row)
        for column, panel in enumerate(row):
            panels.append(_graph(panel, len(panels) + 1, {"x": column * width, "y": y + 1, "w": width, "h": 8}))
        y += 9
    return {
        "uid": "genseg",
        "title": "genseg",
        "tags": ["ray", "genseg"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource_variable(), _application_variable()]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _graph(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}


def _application_variable() -> dict[str, Any]:
    return {
        "name": "application",
        "label": "Application",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": "label_values(ray_genseg_requests_total, application)", "refId": "application"},
        "refresh": 2,
        "current": {"text": "segmentation", "value": "segmentation"},
    }
