"""The files in cluster/: valid by the published schemas that packages bring, and in step with configs/ and the code."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray
import torch
import yaml
from jsonschema import Draft7Validator

from serve_app.cli import ray_session, serve
from serve_app.cli.commands import COMMANDS
from serve_app.cli.main import main
from serve_app.config.files import load_file

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "cluster"
RAY_SERVICE = CLUSTER / "kuberay" / "rayservice.yaml"
RAY_JOB = CLUSTER / "kuberay-job" / "rayjob.yaml"
LAUNCHER = CLUSTER / "vm" / "aws.yaml"
FRONT_PROXY = CLUSTER / "front-proxy" / "kubernetes.yaml"
MULTI_GPU = ROOT / "configs" / "multi-gpu.yaml"
YAML_FILES = sorted(CLUSTER.rglob("*.y*ml"))


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    yield from script(CLUSTER / "generate.py")


@pytest.fixture(scope="module")
def sizing() -> Iterator[ModuleType]:
    yield from script(ROOT / "tests" / "benchmarks" / "sizing.py")


def script(path: Path) -> Iterator[ModuleType]:
    """Import a script by its path, and leave nothing of it behind."""
    before, name = list(sys.path), f"script_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    del sys.modules[name]


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def cluster_of(path: Path) -> dict[str, Any]:
    (document,) = documents(path)
    spec = document["spec"]
    return dict(spec.get("rayClusterConfig") or spec["rayClusterSpec"])


def pod_templates(path: Path) -> list[dict[str, Any]]:
    cluster = cluster_of(path)
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def largest_replicas(config: Path) -> dict[str, dict[str, Any]]:
    (application,) = yaml.safe_load(config.read_text())["applications"]
    return {deployment["name"]: deployment for deployment in application["deployments"]}


def core_resources() -> list[Any]:
    """Every Kubernetes resource that is not a custom one, and every pod of the Ray resources as a Pod."""
    found = []
    for path in YAML_FILES:
        for document in documents(path):
            version = str(document.get("apiVersion", ""))
            if document.get("kind") and version.split("/")[0] in {
                "v1",
                "apps",
                "batch",
                "networking.k8s.io",
                "policy",
            }:
                found.append(
                    pytest.param(document, id=f"{path.name}-{document['kind']}-{document['metadata']['name']}")
                )
    for path in (RAY_SERVICE, RAY_JOB):
        for index, template in enumerate(pod_templates(path)):
            pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "pod", **template["metadata"]}}
            found.append(pytest.param(pod, id=f"{path.name}-pod-{index}"))
    return found


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_every_file_is_yaml(path: Path) -> None:
    assert documents(path)


@pytest.mark.parametrize("resource", core_resources())
def test_resources_fit_the_kubernetes_schema(resource: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="extra `cluster` is not installed")
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_launcher_file_fits_ray_s_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((CLUSTER / "vm" / "aws.yaml").read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(config)] == []
    validate_config(prepare_config(config))


def test_generated_files_are_up_to_date(generate: ModuleType) -> None:
    assert generate.stale(ROOT) == []


def test_serve_config_of_the_service_is_the_file_in_configs(tmp_path: Path) -> None:
    (document,) = documents(RAY_SERVICE)
    inner = tmp_path / "serve.yaml"
    inner.write_text(document["spec"]["serveConfigV2"])
    assert yaml.safe_load(inner.read_text()) == yaml.safe_load((ROOT / "configs" / "multi-gpu.yaml").read_text())
    assert load_file(inner) == load_file(ROOT / "configs" / "multi-gpu.yaml")


def test_with_serve_config_replaces_only_what_is_between_the_markers(generate: ModuleType) -> None:
    manifest = "spec:\n  # BEGIN generated: why\n  serveConfigV2: old\n  # END generated\n  after: 1\n"
    text = generate.with_serve_config(manifest, "a: 1\n\n# note\n")
    assert yaml.safe_load(text) == {"spec": {"serveConfigV2": "a: 1\n\n# note\n", "after": 1}}
    assert generate.with_serve_config(text, "a: 1\n\n# note\n") == text
    with pytest.raises(ValueError, match="BEGIN"):
        generate.with_serve_config("spec: {}\n", "a: 1\n")


def test_check_fails_on_a_stale_file(generate: ModuleType, tmp_path: Path) -> None:
    for path in (*generate.SERVE_CONFIGS, *generate.SERVE_CONFIGS.values(), generate.DASHBOARD):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text((ROOT / path).read_text())
    assert generate.stale(tmp_path) == []
    config = tmp_path / "configs" / "multi-gpu.yaml"
    config.write_text(config.read_text().replace("threshold: 0.5", "threshold: 0.4"))
    assert generate.stale(tmp_path) == [Path("cluster/kuberay/rayservice.yaml")]


def test_sizing_tables_are_up_to_date(sizing: ModuleType) -> None:
    assert sizing.main(["--check"]) == 0


def test_sizing_counts_the_published_gains_over_the_plain_loop(sizing: ModuleType) -> None:
    for phrases, gain in ((5, 3.9), (10, 6.2), (15, 7.6)):
        vision, head = sizing.gflop(sizing.Request(1, phrases, present=1.0))
        ratio = sizing.loop_gflop(sizing.Request(1, phrases)) / (vision + head - phrases * sizing.TEXT_GFLOP)
        assert ratio == pytest.approx(gain, rel=0.03)  # the text encoder's part is cached there


def test_sizing_counts_the_largest_fleet_of_the_config(sizing: ModuleType) -> None:
    deployments = largest_replicas(ROOT / "configs" / "multi-gpu.yaml")
    names = ("SegmenterDeployment", "ParserDeployment")
    assert tuple(deployments[name]["autoscaling_config"]["max_replicas"] for name in names) == sizing.FLEET


def test_a_verdict_costs_under_3_percent_of_the_segmenter(sizing: ModuleType) -> None:
    """By FLOP, at full size; also where no phrase is found and so no mask is drawn."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import Dinov2Config, Dinov2Model

    with torch.device("meta"):  # the configuration of facebook/dinov2-base
        model = Dinov2Model(Dinov2Config(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=518))
        crops = torch.zeros(sizing.OBJECTS, 3, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(crops)
    assert counter.get_total_flops() / 1e9 == pytest.approx(sizing.OBJECTS * sizing.IDENTITY_GFLOP, rel=0.002)
    for present in (0.0, 0.5, 1.0):
        assert sizing.identity_share(sizing.Request(3, 4, present), 12) < 0.03
    gib = sum(parameter.numel() for parameter in model.parameters()) * 2 / 2**30
    assert f"weights {gib:.2f} GiB" in (CLUSTER / "SIZING.md").read_text()


def test_the_weights_that_are_fetched_are_those_of_the_config() -> None:
    models = load_file(MULTI_GPU).app.models
    names = {models.text_parser.model_name, models.segmentation.model_name, models.identity.model_name}
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.MULTILINE))
    assert {arguments[name] for name in re.findall(r'hf download "\$\{(\w+)\}"', dockerfile)} == names
    assert "facebook/sam3" in names
    assert re.findall(r'hf download "\$\{SEGMENTER\}" (.*?) \\', dockerfile) == ["--exclude sam3.pt"]
    assert set(models_of(downloader())) == names
    for container in waiting_containers():
        assert set(models_of(container)) == names


def downloader() -> dict[str, Any]:
    """The container that fills the volume."""
    (job,) = [document for document in documents(CLUSTER / "kuberay" / "weights.yaml") if document["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return dict(container)


def waiting_containers() -> list[dict[str, Any]]:
    """The containers that wait for it: one in each group of workers."""
    groups = [group for path in (RAY_SERVICE, RAY_JOB) for group in cluster_of(path)["workerGroupSpecs"]]
    found = [container for group in groups for container in group["template"]["spec"]["initContainers"]]
    assert len(found) == len(groups) == 3
    return found


def models_of(container: dict[str, Any]) -> list[str]:
    (value,) = [variable["value"] for variable in container["env"] if variable["name"] == "MODELS"]
    return str(value).split()


def run_on_a_volume(container: dict[str, Any], folder: Path, **stubs: str) -> subprocess.CompletedProcess[str]:
    """Run a container's script with a folder in the place of /models, and stubs before the usual programs."""
    program, *flags, script = container["command"]
    assert (program, flags) in [("sh", ["-c"]), ("bash", ["-ec"])]
    for name, text in stubs.items():
        stub(folder / "bin", name, text)
    (folder / "models").mkdir(exist_ok=True)
    script = f"MODELS='{' '.join(models_of(container))}'\n" + script.replace("/models", str(folder / "models"))
    return shell(f"set -e\n{script}" if flags == ["-ec"] else script, folder / "bin", folder)


def test_the_download_marks_its_models_last_and_takes_back_the_marks_of_a_former_one(tmp_path: Path) -> None:
    first, *_ = models_of(downloader())
    mark = tmp_path / "models" / ".complete" / first
    mark.parent.mkdir(parents=True)
    mark.touch()
    marks = f"find {tmp_path}/models/.complete -type f | wc -l"
    record = f'echo "$@ with $({marks}) marks" >> {tmp_path}/calls'
    broken = run_on_a_volume(downloader(), tmp_path, hf=f'{record}; [ "$2" = {first} ]')
    assert broken.returncode != 0
    assert not mark.exists()  # the second download failed
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"download {name} --exclude sam3.pt with 0 marks" for name in models_of(downloader())[:2]]
    assert run_on_a_volume(downloader(), tmp_path, hf=record).returncode == 0
    assert (tmp_path / "calls").read_text().splitlines()[2:] == [
        f"download {name} --exclude sam3.pt with 0 marks" for name in models_of(downloader())
    ]
    assert all((tmp_path / "models" / ".complete" / name).is_file() for name in models_of(downloader()))


@pytest.mark.parametrize("index", range(3))
def test_workers_wait_for_the_marks_of_all_their_models_and_say_for_which(index: int, tmp_path: Path) -> None:
    container = waiting_containers()[index]
    complete = tmp_path / "models" / ".complete"
    first, *others = models_of(container)
    (complete / "other").mkdir(parents=True)
    (complete / "other" / "model").touch()  # of a former set of models
    for name in others:
        (complete / name).parent.mkdir(exist_ok=True)
        (complete / name).touch()
    sleep = f"echo slept >> {tmp_path}/sleeps; mkdir -p {(complete / first).parent}"
    sleep += f"; if [ $(wc -l < {tmp_path}/sleeps) = 2 ]; then touch {complete / first}; fi"
    done = run_on_a_volume(container, tmp_path, sleep=sleep)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines() == [f"waiting for the weights of {first}, which the job genseg-weights downloads"] * 2
    )
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
    assert mounts == [{"name": "models", "mountPath": "/models", "readOnly": True}]


def test_sizing_costs_more_for_more_work(sizing: ModuleType) -> None:
    for gpu in sizing.GPUS:
        for few, many in ((sizing.Request(1, 4), sizing.Request(2, 4)), (sizing.Request(1, 4), sizing.Request(1, 8))):
            assert sizing.request_s(few, gpu, sizing.OPTIMISTIC) < sizing.request_s(many, gpu, sizing.OPTIMISTIC)
        assert sizing.request_s(sizing.TYPICAL, gpu, sizing.OPTIMISTIC) < sizing.request_s(
            sizing.TYPICAL, gpu, sizing.PESSIMISTIC
        )


def test_dashboard_shows_every_metric_of_the_service_and_no_other() -> None:
    text = (CLUSTER / "monitoring" / "dashboard.json").read_text()
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"ray_(genseg_\w+)", text)}
    source = (ROOT / "serve_app" / "serving" / "replica" / "metrics.py").read_text()
    assert shown == set(re.findall(r'"(genseg_\w+)"', source))


def test_the_guide_lists_every_metric_of_the_service_and_no_other() -> None:
    source = (ROOT / "serve_app" / "serving" / "replica" / "metrics.py").read_text()
    assert set(re.findall(r"`(genseg_\w+)`", GUIDE)) == set(re.findall(r'"(genseg_\w+)"', source))


def test_alerts_use_metrics_of_the_service() -> None:
    text = (CLUSTER / "monitoring" / "alerts.yml").read_text()
    used = {re.sub(r"_bucket$", "", name) for name in re.findall(r"ray_(genseg_\w+)", text)}
    source = (ROOT / "serve_app" / "serving" / "replica" / "metrics.py").read_text()
    assert used
    assert used <= set(re.findall(r'"(genseg_\w+)"', source))


@pytest.mark.parametrize("path", [RAY_SERVICE, RAY_JOB], ids=lambda path: path.stem)
def test_ray_version_is_the_installed_one(path: Path) -> None:
    assert cluster_of(path)["rayVersion"] == ray.__version__


@pytest.mark.parametrize("path", [RAY_SERVICE, RAY_JOB], ids=lambda path: path.stem)
def test_ray_pods_run_without_privileges(path: Path) -> None:
    for template in pod_templates(path):
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in (*template["spec"].get("initContainers", []), *template["spec"]["containers"]):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("path", [RAY_SERVICE, RAY_JOB], ids=lambda path: path.stem)
def test_ray_s_own_ports_ask_for_a_token(path: Path) -> None:
    assert cluster_of(path)["authOptions"] == {"mode": "token"}


def test_every_replica_fits_a_node() -> None:
    gpu, cpu = cluster_of(RAY_SERVICE)["workerGroupSpecs"]
    (container,) = gpu["template"]["spec"]["containers"]
    (small,) = cpu["template"]["spec"]["containers"]
    deployments = largest_replicas(ROOT / "configs" / "multi-gpu.yaml")
    options = {name: deployment["ray_actor_options"] for name, deployment in deployments.items()}
    for name in ("ParserDeployment", "SegmenterDeployment"):
        assert options[name]["num_cpus"] + options["Ingress"]["num_cpus"] <= int(
            container["resources"]["limits"]["cpu"]
        )
        assert options[name]["num_gpus"] == int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert options["Ingress"]["num_cpus"] <= int(small["resources"]["limits"]["cpu"])


@pytest.mark.parametrize("bound", ["min_replicas", "max_replicas"])
def test_node_counts_follow_the_replicas(bound: str) -> None:
    deployments = largest_replicas(ROOT / "configs" / "multi-gpu.yaml")
    replicas = {name: deployment["autoscaling_config"][bound] for name, deployment in deployments.items()}
    on_gpus = replicas["ParserDeployment"] + replicas["SegmenterDeployment"]
    gpu, cpu = cluster_of(RAY_SERVICE)["workerGroupSpecs"]
    assert gpu["minReplicas" if bound == "min_replicas" else "maxReplicas"] == on_gpus
    assert cpu["minReplicas" if bound == "min_replicas" else "maxReplicas"] == replicas["Ingress"]
    types = yaml.safe_load((CLUSTER / "vm" / "aws.yaml").read_text())["available_node_types"]
    assert types["gpu"]["min_workers" if bound == "min_replicas" else "max_workers"] == on_gpus
    assert types["ingress"]["min_workers" if bound == "min_replicas" else "max_workers"] == replicas["Ingress"]


def test_pods_outlive_the_drain_of_every_deployment() -> None:
    drains = [d["graceful_shutdown_timeout_s"] for d in largest_replicas(ROOT / "configs" / "multi-gpu.yaml").values()]
    for group in cluster_of(RAY_SERVICE)["workerGroupSpecs"]:
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > max(drains)


def token_variable() -> str:
    """The environment variable without which an Ingress replica does not start."""
    name = load_file(MULTI_GPU).app.auth.token_env
    assert name
    return name


@pytest.mark.parametrize("path", [RAY_SERVICE, RAY_JOB], ids=lambda path: path.stem)
def test_every_ray_pod_has_the_tokens_from_the_secret(path: Path) -> None:
    for template in pod_templates(path):
        (container,) = template["spec"]["containers"]
        (variable,) = [variable for variable in container["env"] if variable["name"] == token_variable()]
        reference = variable["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "genseg-tokens", "key": "tokens"}  # not optional: without it no pod starts


class Machine:
    """Stands for `subprocess` in Ray's launcher: records what it would run over ssh on a node."""

    DEVNULL, PIPE = -3, -1

    def __init__(self) -> None:
        self.commands: list[str] = []

    def check_call(self, command: list[str], **_: Any) -> int:
        self.commands.append(" ".join(command))
        return 0

    def check_output(self, command: list[str], **_: Any) -> bytes:
        self.commands.append(" ".join(command))
        return json.dumps(image_environment()).encode() if ".Config.Env" in command[-1] else b""


def image_environment() -> list[str]:
    text = (CLUSTER / "Dockerfile").read_text()
    return [pair for line in re.findall(r"^ENV (.+)$", text, re.MULTILINE) for pair in line.split()]


def commands_on(kind: str, tmp_path: Path) -> list[str]:
    """Let Ray's own launcher set up a head or a worker, and return the commands that it runs there, in order."""
    from ray.autoscaler._private.updater import NodeUpdater
    from ray.autoscaler.node_provider import NodeProvider

    class Provider(NodeProvider):
        def node_tags(self, _: str) -> dict[str, str]:
            return {}

        def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
            pass

        def is_terminated(self, _: str) -> bool:
            return False

        def internal_ip(self, _: str) -> str:
            return "10.0.0.2"

    config = yaml.safe_load(LAUNCHER.read_text())
    provider = {**config["provider"], "type": "external"}  # `aws` needs boto3 and an account
    token = tmp_path / "auth_token"
    token.write_text("token")
    machine = Machine()
    NodeUpdater(
        node_id="node",
        provider_config=provider,
        provider=Provider(provider, config["cluster_name"]),
        auth_config=config["auth"],
        cluster_name=config["cluster_name"],
        file_mounts=dict.fromkeys(config["file_mounts"], str(token)),
        initialization_commands=config["initialization_commands"],
        setup_commands=config["setup_commands"],
        ray_start_commands=config[f"{kind}_start_ray_commands"],
        runtime_hash="new",
        file_mounts_contents_hash="new",
        is_head_node=kind == "head",
        process_runner=machine,
        docker_config=config["docker"],
    ).run()
    return machine.commands


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_the_launcher_writes_the_tokens_before_it_starts_the_container(kind: str, tmp_path: Path) -> None:
    commands = commands_on(kind, tmp_path)
    file = "/etc/genseg/env"
    (written,) = [i for i, command in enumerate(commands) if "secretsmanager" in command]
    (started,) = [i for i, command in enumerate(commands) if "docker run" in command]
    ray_starts = [i for i, command in enumerate(commands) if "ray start" in command]
    assert f"> {file}" in commands[written]
    assert "docker" not in commands[written]  # on the host: the docker client reads the file there
    assert f"--env-file {file}" in commands[started]
    assert written < started < min(ray_starts)
    assert all("docker exec" in commands[index] for index in ray_starts)  # these inherit the container's environment


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_the_launcher_places_ray_s_own_token_where_the_image_s_user_reads_it(kind: str, tmp_path: Path) -> None:
    (started,) = [command for command in commands_on(kind, tmp_path) if "docker run" in command]
    assert ":/home/genseg/.ray/auth_token" in started


@pytest.mark.parametrize(("secret", "status"), [("one,two", 0), ("", 1), (None, 1)], ids=["two", "empty", "no-access"])
def test_the_launcher_s_command_writes_the_secret_or_fails(secret: str | None, status: int, tmp_path: Path) -> None:
    (command,) = [
        command
        for command in yaml.safe_load(LAUNCHER.read_text())["initialization_commands"]
        if "secretsmanager" in command
    ]
    stubs = tmp_path / "bin"
    stub(stubs, "sudo", 'exec "$@"')
    stub(stubs, "aws", "exit 1" if secret is None else f"echo '{secret}'")
    folder = tmp_path / "etc"
    result = shell(command.replace("/etc/genseg", str(folder)), stubs, tmp_path)
    assert result.returncode == status
    assert (folder / "env").exists() == (status == 0)
    if status == 0:
        assert (folder / "env").read_text() == f"{token_variable()}={secret}\n"
        assert (folder / "env").stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700


def stub(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def shell(script: str, stubs: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with nothing in its environment but the stubs before the usual programs."""
    environment = {"PATH": f"{stubs}:/usr/bin:/bin", "HOME": str(home)}
    return subprocess.run(
        ["bash", "-c", script], env=environment, cwd=home, capture_output=True, text=True, timeout=20, check=False
    )


def test_every_node_of_the_launcher_may_read_the_secret() -> None:
    for node in yaml.safe_load(LAUNCHER.read_text())["available_node_types"].values():
        assert "IamInstanceProfile" in node["node_config"]


def test_the_image_and_the_virtual_machines_set_what_genseg_serve_sets() -> None:
    wanted = {
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": serve.GUARD,
        **ray_session.FEW_HEAPS,
        **ray_session.SEGMENTS_THAT_GROW,
        **ray_session.STARTS_AS_CONFIGURED,
    }
    image = (CLUSTER / "Dockerfile").read_text().splitlines()
    by_hand = (CLUSTER / "README.md").read_text().splitlines()
    for name, value in wanted.items():
        assert f"ENV {name}={value}" in image
        assert f"    export {name}={value}" in by_hand


def test_the_image_has_what_the_launcher_runs_in_it() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    (packages,) = re.findall(r"--no-install-recommends ([^\\]+)", text)
    assert {"rsync", "openssh-client", "nginx"} <= set(packages.split())
    assert "/etc/profile.d/" in text  # its login shells set PATH anew


def test_the_gpu_image_has_the_compiler_that_triton_calls() -> None:
    _, runtime = (CLUSTER / "Dockerfile").read_text().split(" AS runtime\n")
    assert runtime.startswith("ARG VARIANT=")
    assert 'if [ "${VARIANT}" = gpu ]; then compiler="g++ gcc libc6-dev"; fi' in runtime
    (packages,) = re.findall(r"--no-install-recommends ([^\\]+)", runtime)
    assert "${compiler:-}" in packages.split()


GUIDE = (CLUSTER / "README.md").read_text()
WAYS_OF_STARTING = {
    # Heading of the guide, and the commands after which replicas of the Ingress may start.
    "Kubernetes": [r"kubectl apply -k", r"kubectl -n genseg create -k"],
    "Virtual machines": [r"ray up", r"serve deploy"],
    "Without a cluster manager": [r"ray start", r"serve deploy"],
    "One machine with Docker": [r"docker run .*genseg serve"],
}


def code_of(heading: str) -> str:
    """Return the commands of one section of the guide, as one script."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    return "\n".join(line.strip() for line in section.splitlines() if re.match(r" {4,}\S", line))


def run_guide(heading: str, folder: Path) -> list[dict[str, str]]:
    """Run a section's commands, with stubs for all programs that need a cluster, and return the calls of the stubs."""
    stubs, record = folder / "bin", folder / "calls"
    call = f'printf \'%s\\t%s\\n\' "$(basename "$0") $*" "${{{token_variable()}:-}}" >> {record}'
    for program in (
        "ray",
        "hf",
        "serve",
        "genseg",
        "kubectl",
        "docker",
        "aws",
        "python",
        "curl",
        "nginx",
        "sudo",
        "apt-get",
    ):
        stub(stubs, program, call)
    stub(stubs, "openssl", f"{call}; echo 0123456789abcdef")
    (folder / "cluster").symlink_to(CLUSTER)
    result = shell(f"set -eu\nHF_TOKEN=hf TOKEN=t\n{code_of(heading)}", stubs, folder)
    assert result.returncode == 0, result.stderr
    calls = [line.split("\t") for line in record.read_text().splitlines()]
    return [{"command": command, "tokens": tokens} for command, tokens in calls]


@pytest.mark.parametrize("heading", WAYS_OF_STARTING)
def test_the_guide_s_commands_run_and_check_the_config_with_the_tokens_set(heading: str, tmp_path: Path) -> None:
    calls = run_guide(heading, tmp_path)
    for pattern in WAYS_OF_STARTING[heading]:
        assert any(re.search(pattern, call["command"]) for call in calls), pattern
    checks = [call for call in calls if "genseg check-config" in call["command"]]
    assert checks
    for call in checks:
        if call["command"].startswith("docker run"):
            assert f"--env {token_variable()}" in call["command"]
        if not call["command"].startswith("ray exec"):  # that runs in the container, which has the variable
            assert call["tokens"]


def test_the_guide_for_kubernetes_makes_the_secret_before_any_pod_starts(tmp_path: Path) -> None:
    commands = [call["command"] for call in run_guide("Kubernetes", tmp_path)]
    (made,) = [i for i, command in enumerate(commands) if "create secret generic genseg-tokens" in command]
    (started,) = [i for i, command in enumerate(commands) if "apply -k" in command and "upgrade" not in command]
    assert re.search(r"--from-literal=tokens=[0-9a-f]{8,}", commands[made])
    assert made < started


def test_the_guide_for_virtual_machines_makes_the_secret_before_any_node_starts(tmp_path: Path) -> None:
    commands = [call["command"] for call in run_guide("Virtual machines", tmp_path)]
    (made,) = [i for i, command in enumerate(commands) if "secretsmanager create-secret" in command]
    (started,) = [i for i, command in enumerate(commands) if command.startswith("ray up")]
    assert "--name genseg-tokens" in commands[made]
    assert re.search(r"--secret-string [0-9a-f]{8,}", commands[made])
    assert made < started
    check, deploy = (next(i for i, c in enumerate(commands) if word in c) for word in ("check-config", "serve deploy"))
    assert started < check < deploy


def test_the_guide_without_a_manager_starts_ray_with_the_tokens_on_every_machine(tmp_path: Path) -> None:
    calls = run_guide("Without a cluster manager", tmp_path)
    starts = [call for call in calls if call["command"].startswith("ray start")]
    assert len(starts) == 2
    assert all(call["tokens"] for call in starts)  # replicas inherit the environment of `ray start`


def test_docker_passes_the_tokens_on(tmp_path: Path) -> None:
    for call in run_guide("One machine with Docker", tmp_path):
        if call["command"].startswith("docker run") and "multi-gpu.yaml" in call["command"]:
            assert call["tokens"]
            assert f"--env {token_variable()}" in call["command"]


def test_the_network_policy_opens_the_ports_that_are_served() -> None:
    policy, _ = documents(CLUSTER / "kuberay" / "networkpolicy.yaml")
    opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", [])}
    config = yaml.safe_load((ROOT / "configs" / "multi-gpu.yaml").read_text())
    assert config["http_options"]["port"] in opened
    for template in pod_templates(RAY_SERVICE):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def policies(*paths: Path) -> dict[str, dict[str, Any]]:
    found = [document for path in paths for document in documents(path)]
    return {document["metadata"]["name"]: document["spec"] for document in found if document["kind"] == "NetworkPolicy"}


def test_clients_reach_the_ray_pods_only_through_the_front_proxy() -> None:
    rules = policies(CLUSTER / "kuberay" / "networkpolicy.yaml", FRONT_PROXY)
    serve_port = yaml.safe_load(MULTI_GPU.read_text())["http_options"]["port"]
    deployment = next(document for document in documents(FRONT_PROXY) if document["kind"] == "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    clients = {"namespaceSelector": {"matchLabels": {"genseg.io/client": "true"}}}
    to_ray = [
        source
        for rule in rules["genseg-ray"]["ingress"]
        if not rule.get("ports") or serve_port in [port["port"] for port in rule["ports"]]
        for source in rule["from"]
    ]
    assert {"podSelector": {"matchLabels": labels}} in to_ray
    assert clients not in to_ray
    proxy = rules["genseg-front-proxy"]
    assert proxy["podSelector"]["matchLabels"] == labels
    assert [rule["from"] for rule in proxy["ingress"]] == [[clients]]
    assert not labels.items() <= rules["genseg-ray"]["podSelector"]["matchLabels"].items()  # else all ports were open


def test_the_front_proxy_runs_with_the_one_configuration_and_without_privileges() -> None:
    by_kind = {document["kind"]: document for document in documents(FRONT_PROXY)}
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
    (generated,) = documents(FRONT_PROXY.parent / "kustomization.yaml")[0]["configMapGenerator"]
    files = dict(file.split("=") if "=" in file else (file, file) for file in generated["files"])
    included = re.findall(r"include ([\w.]+);", (FRONT_PROXY.parent / "nginx.conf").read_text())
    assert set(files) == {"nginx.conf", *included}
    assert all((FRONT_PROXY.parent / file).is_file() for file in files.values())
    (volume,) = [volume for volume in pod["volumes"] if "configMap" in volume]
    assert volume["configMap"]["name"] == generated["name"]


def test_ports_of_the_front_proxy_agree() -> None:
    by_kind = {document["kind"]: document for document in documents(FRONT_PROXY)}
    (container,) = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    (listening,) = re.findall(r"^listen (\d+);", (FRONT_PROXY.parent / "listen.conf").read_text(), re.MULTILINE)
    assert port["containerPort"] == int(listening)
    assert by_kind["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert by_kind["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": int(listening)}]
    assert container["readinessProbe"]["httpGet"]["path"] in (FRONT_PROXY.parent / "nginx.conf").read_text()
    served = yaml.safe_load(MULTI_GPU.read_text())["http_options"]["port"]
    for name in ("upstream.conf", "upstream.kubernetes.conf"):
        assert f":{served};" in (FRONT_PROXY.parent / name).read_text()


def test_the_front_proxy_s_volume_holds_every_body_and_answer_at_once() -> None:
    text = (FRONT_PROXY.parent / "nginx.conf").read_text()
    (requests,) = set(re.findall(r"limit_conn all (\d+);", text))
    (body,) = re.findall(r"client_max_body_size (\d+)m;", text)
    (answer,) = re.findall(r"proxy_max_temp_file_size (\d+)m;", text)
    (deployment,) = [document for document in documents(FRONT_PROXY) if document["kind"] == "Deployment"]
    (volume,) = [volume for volume in deployment["spec"]["template"]["spec"]["volumes"] if "emptyDir" in volume]
    assert int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 1024 > int(requests) * (int(body) + int(answer))


def test_requests_at_the_front_proxy_end_before_their_servers_stop() -> None:
    longest_s = load_file(MULTI_GPU).app.serving.max_timeout_s
    text = (FRONT_PROXY.parent / "nginx.conf").read_text()
    (connection_s,) = re.findall(r"keepalive_time (\d+)s;", text)
    (service,) = documents(RAY_SERVICE)
    assert int(connection_s) + longest_s < service["spec"]["rayClusterDeletionDelaySeconds"]
    (deployment,) = [document for document in documents(FRONT_PROXY) if document["kind"] == "Deployment"]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > longest_s


@pytest.mark.parametrize("folder", ["front-proxy", "kuberay-incremental-upgrade"])
def test_the_front_proxy_waits_for_the_service_that_it_forwards_to(folder: str, tmp_path: Path) -> None:
    (deployment,) = [document for document in documents(FRONT_PROXY) if document["kind"] == "Deployment"]
    *_, script = deployment["spec"]["template"]["spec"]["initContainers"][0]["command"]
    name = "upstream.kubernetes.conf" if folder == "front-proxy" else "upstream.conf"
    stub(tmp_path / "bin", "getent", f'echo "$@" >> {tmp_path}/asked')
    upstream = CLUSTER / folder / name
    result = shell(script.replace("/etc/front-proxy/upstream.conf", str(upstream)), tmp_path / "bin", tmp_path)
    assert result.returncode == 0, result.stderr
    (host,) = re.findall(r"^server ([\w.-]+):", upstream.read_text(), re.MULTILINE)
    assert (tmp_path / "asked").read_text().split() == ["hosts", host]


def images_of(resource: Any) -> Iterator[str]:
    if isinstance(resource, dict):
        if isinstance(resource.get("image"), str):
            yield resource["image"]
        for value in resource.values():
            yield from images_of(value)
    elif isinstance(resource, list):
        for value in resource:
            yield from images_of(value)


def paths_of_images(resource: Any, path: str = "") -> Iterator[str]:
    """Where a resource names images, as kustomize writes it: keys with slashes, lists left out."""
    if isinstance(resource, dict):
        for key, value in resource.items():
            if key == "image":
                yield f"{path}/{key}".removeprefix("/")
            yield from paths_of_images(value, f"{path}/{key}")
    elif isinstance(resource, list):
        for value in resource:
            yield from paths_of_images(value, path)


@pytest.mark.parametrize("folder", ["kuberay", "kuberay-job"])
def test_kustomize_renames_the_image_of_every_manifest(folder: str) -> None:
    (kustomization,) = documents(CLUSTER / folder / "kustomization.yaml")
    assert kustomization["components"] == ["../kuberay-image"]
    (component,) = documents(CLUSTER / "kuberay-image" / "kustomization.yaml")
    renamed = {image["name"] for image in component["images"]}
    paths = {
        (entry["kind"], entry["path"]) for entry in documents(CLUSTER / "kuberay-image" / "images.yaml")[0]["images"]
    }
    for file in (CLUSTER / folder / name for name in kustomization["resources"]):
        for document in documents(file) if file.is_file() else []:
            for image in images_of(document):
                assert image.split(":")[0] in renamed
            if document["kind"] in {"RayService", "RayJob"}:  # kustomize knows where the others name their images
                assert {path for kind, path in paths if kind == document["kind"]} == {*paths_of_images(document)}


@pytest.mark.parametrize("folder", ["kuberay", "kuberay-job", "kuberay-incremental-upgrade"])
def test_kustomize_builds_what_is_applied(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run([kubectl, "kustomize", str(CLUSTER / folder)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    resources = list(yaml.safe_load_all(built.stdout))
    images = {image for resource in resources for image in images_of(resource)}
    assert images <= {"registry.example.com/genseg:gpu", "nginx:1.28"}
    for resource in resources:
        if resource["kind"] == "ConfigMap":
            expected = "genseg-gateway" if "upgrade" in folder else "genseg-serve-svc"
            assert f"server {expected}" in resource["data"]["upstream.conf"]
            assert resource["data"]["nginx.conf"] == (FRONT_PROXY.parent / "nginx.conf").read_text()


def test_the_batch_job_runs_a_command_that_exists(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (job,) = documents(RAY_JOB)
    program, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program == "genseg"
    if arguments[0] not in COMMANDS:
        pytest.skip("this version has no such command")
    config = ROOT / "configs" / Path(arguments[arguments.index("--config") + 1]).name
    assert config.is_file()
    missing = str(tmp_path / "none.jsonl")
    here = {
        "/data/manifest.jsonl": missing,
        "/data/results": str(tmp_path),
        f"/opt/genseg/configs/{config.name}": str(config),
    }
    assert main([here.get(argument, argument) for argument in arguments]) == 1
    assert missing in capfd.readouterr().err


def test_the_image_is_built_from_files_that_exist() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    sources = [
        source for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for source in line.split()[:-1]
    ]
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def test_the_image_does_not_run_as_root() -> None:
    stages = re.split(r"^FROM ", (CLUSTER / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    (runtime,) = [stage for stage in stages if "AS runtime" in stage.splitlines()[0]]
    assert "USER 1000:1000" in runtime
    assert all("USER root" not in stage for stage in stages)
