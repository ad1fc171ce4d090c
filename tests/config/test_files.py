"""Configuration files: every fault is found, placed by line, and said with the nearest known key."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.config.files import MAX_FILE_BYTES, Problem, app_config_from, check_file, load_file
from serve_app.config.schema import AppConfig
from serve_app.errors import ConfigError

CONTRACT_FILE = """
models:
  text_parser: {model_name: "Qwen/Qwen3-VL-8B-Instruct", dtype: "bfloat16", device_map: "auto"}
  segmentation: {model_name: "facebook/sam3", dtype: "bfloat16", device: "cuda"}
segmentation: {threshold: 0.5, mask_threshold: 0.5}
entity_filter: {excluded_terms: ["shadows", "mood"]}
output: {box_format: "xyxy", coordinate_unit: "pixels", save_visualizations: true, visualization_dir: "outputs/viz"}
device: {cuda_device: 0, use_flash_attention: true}
"""

SERVE_FILE = """\
http_options: {host: 127.0.0.1, port: 8000}
applications:
  - name: segmentation
    route_prefix: /
    import_path: serve_app.app:build
    args:
      segmentation: {threshold: 0.4}
    deployments:
      - name: Ingress
        num_replicas: 1
        user_config: {segmentation: {threshold: 0.3}}
      - name: SegmenterDeployment
        max_ongoing_requests: 16
        autoscaling_config: {min_replicas: 1, max_replicas: 4, target_ongoing_requests: 8}
        user_config: {batching: {max_pairs: 7}}
      - name: ParserDeployment
        ray_actor_options: {num_cpus: 0.25, num_gpus: 0.4}
        user_config: {batching: {max_prompts: 3}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(textwrap.dedent(text))
    return path


def lines(problems: list[Problem]) -> list[str]:
    return [f"{problem.line} {problem}" for problem in problems]


def test_load_file_accepts_the_file_of_the_contract(tmp_path: Path) -> None:
    loaded = load_file(write(tmp_path, CONTRACT_FILE))
    assert loaded.serve is None
    assert loaded.app.models.text_parser.model_name == "Qwen/Qwen3-VL-8B-Instruct"
    assert loaded.app.entity_filter.excluded_terms == ("shadows", "mood")
    assert loaded.app.device.use_flash_attention


def test_load_file_draws_user_config_into_the_app(tmp_path: Path) -> None:
    loaded = load_file(write(tmp_path, SERVE_FILE))
    assert loaded.app.segmentation.threshold == 0.3
    assert loaded.app.batching.max_pairs == 7
    assert loaded.app.batching.max_prompts == 3
    assert loaded.serve is not None
    assert loaded.serve["applications"][0]["args"] == {"segmentation": {"threshold": 0.4}}


@pytest.mark.parametrize(
    "name",
    [
        "serve_app.serving.autoscaling:WorkPolicy",
        "ray.serve.autoscaling_policy.replica_queue_length_autoscaling_policy",
    ],
)
def test_load_file_accepts_policies(name: str, tmp_path: Path) -> None:
    text = SERVE_FILE.replace("target_ongoing_requests: 8", f"policy: {{policy_function: {name}}}")
    assert load_file(write(tmp_path, text)).serve is not None


def test_load_file_raises_one_line_per_problem(tmp_path: Path) -> None:
    path = write(tmp_path, "segmentation: {threshold: 2}\ncahce: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_file(path)
    assert caught.value.message.splitlines() == [
        f"{path}:1: segmentation.threshold: must be at most 1, got 2",
        f"{path}:2: cahce: unknown key 'cahce'; did you mean 'cache'?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "\nsegmentation:\n  treshold: 0.5\n",
            ["3 segmentation.treshold: unknown key 'treshold'; did you mean 'threshold'?"],
            id="nearest-neighbour",
        ),
        pytest.param(
            "threshold: 0.5\n",
            ["1 threshold: unknown key 'threshold'; it belongs under 'segmentation'"],
            id="moved-key",
        ),
        pytest.param(
            "models: {}\ntreshold: 0.5\n",
            ["2 treshold: unknown key 'treshold'; did you mean 'segmentation.threshold'?"],
            id="misspelt-and-moved",
        ),
        pytest.param(
            "output: {viz_dir: x}\n",
            ["1 output.viz_dir: unknown key 'viz_dir'; the nearest known key is 'visualization_dir'"],
            id="far-neighbour",
        ),
        pytest.param(
            "models: {}\nname: mine\n",
            ["2 name: unknown key 'name'; the nearest known key is 'cache'"],
            id="our-file-with-a-key-of-rays",
        ),
        pytest.param(
            "models: {text_parser: {openai: {base_url: 'localhost:8001'}}}\n",
            ["1 models.text_parser.openai.base_url: 'localhost:8001' is not a valid http:// or https:// address"],
            id="no-address",
        ),
        pytest.param(
            "models: {text_parser: {openai: {body_pause_s: 15}}}\n",
            ["1 models.text_parser.openai.body_pause_s: unknown key 'body_pause_s'; it belongs under 'serving'"],
            id="a-key-that-openai-no-longer-has",
        ),
        pytest.param("qqq: 1\n", ["1 qqq: unknown key 'qqq'"], id="nothing-near"),
        pytest.param(
            "Segmentation: {}\n",
            ["1 Segmentation: unknown key 'Segmentation'; did you mean 'segmentation'?"],
            id="case",
        ),
        pytest.param("models:\n", ["1 models: must be a mapping of keys, got nothing"], id="empty-section"),
        pytest.param("cache: [1]\n", ["1 cache: must be a mapping of keys, got a list"], id="list-for-mapping"),
        pytest.param("3: 4\n", ["1 [3]: keys must be text, got 3"], id="number-as-key"),
        pytest.param(
            "device: {cuda_device: yes}\n",
            ["1 device.cuda_device: must be a whole number, got true"],
            id="yes-is-no-number",
        ),
        pytest.param(
            'segmentation: {threshold: "0.5"}\n',
            ["1 segmentation.threshold: must be a number, got '0.5'"],
            id="quoted-number",
        ),
        pytest.param(
            "batching: {max_pixels: 1e9}\n",
            ["1 batching.max_pixels: must be a whole number, got '1e9'"],
            id="yaml-reads-1e9-as-text",
        ),
        pytest.param(
            "serving: {max_timeout_s: .inf}\n",
            ["1 serving.max_timeout_s: must be a finite number, got inf"],
            id="infinite",
        ),
        pytest.param(
            "limits: {max_megapixels: .nan}\n", ["1 limits.max_megapixels: must be a finite number, got nan"], id="nan"
        ),
        pytest.param("limits: {max_images: 0}\n", ["1 limits.max_images: must be at least 1, got 0"], id="under-range"),
        pytest.param(
            "entity_filter:\n  excluded_terms:\n  - mood\n  - 5\n",
            ["4 entity_filter.excluded_terms[1]: must be text, got 5"],
            id="list-item",
        ),
        pytest.param(
            "models: {segmentation: {dtype: bf16}}\n",
            [
                "1 models.segmentation.dtype: must be 'auto', 'float32', 'bfloat16' or 'float16', got 'bf16'; "
                "did you mean 'bfloat16'?"
            ],
            id="choice",
        ),
        pytest.param(
            "models:\n  identity: {model_name: '', threshold: 1.5, dtype: half}\n  identitee: {}\n",
            [
                "2 models.identity.model_name: must not be empty, got ''",
                "2 models.identity.threshold: must be at most 1, got 1.5",
                "2 models.identity.dtype: must be 'auto', 'float32', 'bfloat16' or 'float16', got 'half'",
                "3 models.identitee: unknown key 'identitee'; did you mean 'identity'?",
            ],
            id="identity",
        ),
        pytest.param(
            "limits: {max_identity_objects: 0}\n",
            ["1 limits.max_identity_objects: must be at least 1, got 0"],
            id="identity-objects",
        ),
        pytest.param(
            "serving: {timeout_s: 900}\n",
            ["1 serving: timeout_s (900) is over max_timeout_s (300)"],
            id="numbers-that-contradict",
        ),
        pytest.param(
            "cache: {vision_bytes: 1}\ncache: {vision_bytes: 2}\n", ["2 cache: the key is given twice"], id="double-key"
        ),
    ],
)
def test_check_file_names_place_and_nearest_key(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert lines(check_file(write(tmp_path, text))) == expected


def test_check_file_lists_every_problem_in_order_of_the_file(tmp_path: Path) -> None:
    text = "limits: {max_images: 0}\nfetch: {enabled: maybe}\ndevise: {}\nsegmentation:\n  threshold: high\n"
    assert [problem.line for problem in check_file(write(tmp_path, text))] == [1, 2, 3, 5]


def test_check_file_shows_no_token(tmp_path: Path) -> None:
    problems = check_file(write(tmp_path, "auth: {tokens: open-sesame}\n"))
    assert lines(problems) == ["1 auth.tokens: must be a list"]


SERVE_FAULTS = [
    ("http_options:", "http_option:", "1 http_option: unknown key 'http_option'; did you mean 'http_options'?"),
    ("applications:", "aplications:", "2 aplications: unknown key 'aplications'; did you mean 'applications'?"),
    ("port: 8000", "prot: 8000", "1 http_options.prot: unknown key 'prot'; did you mean 'port'?"),
    ("port: 8000", "port: 80000", "1 http_options.port: must be between 0 and 65535, got 80000"),
    ("route_prefix: /", "route_prefix: api", "4 …route_prefix: must start with '/' and not end with one, got 'api'"),
    ("route_prefix: /", "route: /", "4 …route: unknown key 'route'; the nearest known key is 'route_prefix'"),
    (
        "{threshold: 0.4}",
        "{thresh: 0.4}",
        "7 …args.segmentation.thresh: unknown key 'thresh'; did you mean 'threshold'?",
    ),
    ("name: Ingress", "name: Ingres", "9 …deployments[0].name: unknown deployment 'Ingres'; did you mean 'Ingress'?"),
    (
        "name: Ingress",
        "name: ParserDeployment",
        "16 …deployments[2].name: the deployment 'ParserDeployment' is listed twice",
    ),
    ("name: Ingress\n", "nme: Ingress\n", "9 …deployments[0].nme: unknown key 'nme'; did you mean 'name'?"),
    (
        "num_replicas: 1\n",
        "num_replica: 1\n",
        "10 …deployments[0].num_replica: unknown key 'num_replica'; did you mean 'num_replicas'?",
    ),
    ("num_replicas: 1\n", "num_replicas: 0\n", "10 …deployments[0].num_replicas: must be greater than 0, got 0"),
    (
        "num_replicas: 1\n",
        "num_replicas: few\n",
        '10 …deployments[0].num_replicas: `num_replicas` must be an int or "auto", but got: few',
    ),
    ("num_replicas: 1\n", "num_replicas: true\n", "10 …deployments[0].num_replicas: must be a whole number, got true"),
    (
        "num_replicas: 1\n",
        "max_queued_requests: 0\n",
        "10 …deployments[0].max_queued_requests: max_queued_requests must be -1 (no limit) or a positive integer",
    ),
    (
        "num_replicas: 1\n",
        "max_replicas_per_node: 101\n",
        "10 …deployments[0].max_replicas_per_node: must be between 1 and 100, got 101",
    ),
    (
        "num_replicas: 1\n",
        "health_check_period_s: .inf\n",
        "10 …deployments[0].health_check_period_s: must be a finite number, got inf",
    ),
    (
        "max_ongoing_requests: 16",
        "max_ongoing_requests: '16'",
        "13 …deployments[1].max_ongoing_requests: must be a whole number, got '16'",
    ),
    (
        "user_config: {segmentation:",
        "user_config: {models:",
        "11 …deployments[0].user_config.models: 'models' is not a setting of Ingress; it belongs in args "
        "(a change restarts the replicas)",
    ),
    (
        "user_config: {batching: {max_pairs: 7}}",
        "user_config: {limits: {max_images: 7}}",
        "15 …deployments[1].user_config.limits.max_images: 'limits.max_images' is not a setting of "
        "SegmenterDeployment; it belongs in the user_config of Ingress",
    ),
    (
        "user_config: {batching: {max_prompts: 3}}",
        "user_config: {batching: {max_pairs: 1}}",
        "18 …deployments[2].user_config.batching.max_pairs: 'batching.max_pairs' is not a setting of ParserDeployment; "
        "it belongs in the user_config of SegmenterDeployment",
    ),
    (
        "max_ongoing_requests: 16",
        "max_ongoing_requests: 4",
        "13 …deployments[1].max_ongoing_requests: 4 is below autoscaling_config.target_ongoing_requests (8), "
        "so the deployment never scales up",
    ),
    (
        "max_ongoing_requests: 16",
        "num_replicas: 2",
        "13 …deployments[1].num_replicas: Manually setting num_replicas is not allowed when autoscaling_config is "
        "provided",
    ),
    (
        "max_replicas: 4",
        "max_replica: 4",
        "14 …deployments[1].autoscaling_config.max_replica: unknown key 'max_replica'; did you mean 'max_replicas'?",
    ),
    (
        "min_replicas: 1",
        "min_replicas: 5",
        "14 …deployments[1].autoscaling_config.max_replicas: max_replicas (4) must be greater than or equal to "
        "min_replicas (5)",
    ),
    (
        "min_replicas: 1",
        "min_replicas: -1",
        "14 …deployments[1].autoscaling_config.min_replicas: must be at least 0, got -1",
    ),
    (
        "target_ongoing_requests: 8",
        "target_ongoing_requests: many",
        "14 …deployments[1].autoscaling_config.target_ongoing_requests: must be a number, got 'many'",
    ),
    *(
        (
            "target_ongoing_requests: 8",
            f"policy: {{{policy}}}",
            f"14 …deployments[1].autoscaling_config.policy{fault}",
        )
        for policy, fault in (
            (
                "policy_function: serve_app.serving.autoscaling:WorkPolicies",
                ".policy_function: 'serve_app.serving.autoscaling' has no policy 'WorkPolicies'; "
                "did you mean 'WorkPolicy'?",
            ),
            (
                "policy_function: serve_app.serving.autoscalling:WorkPolicy",
                ".policy_function: 'serve_app.serving.autoscalling' cannot be imported: "
                "No module named 'serve_app.serving.autoscalling'",
            ),
            ("policy_function: 7", ".policy_function: must be of the form module:name, got 7"),
            ("policy_functio: x:y", ".policy_functio: unknown key 'policy_functio'; did you mean 'policy_function'?"),
            ("policy_kwargs: 7", ".policy_kwargs: must be a mapping of keys, got 7"),
            (
                "policy_function: serve_app.serving.autoscaling.WorkPolicy, policy_kwargs: {grow_a: 0.7}",
                ".policy_kwargs.grow_a: unknown key 'grow_a'; did you mean 'grow_at'?",
            ),
            (
                "policy_function: serve_app.serving.autoscaling:WorkPolicy, policy_kwargs: {grow_at: 7}",
                ".policy_kwargs: is refused by WorkPolicy: grow_at must be at most 1, got 7",
            ),
        )
    ),
    (
        "num_gpus: 0.4",
        "num_gpu: 0.4",
        "17 …deployments[2].ray_actor_options.num_gpu: unknown key 'num_gpu'; did you mean 'num_gpus'?",
    ),
    (
        "num_gpus: 0.4",
        "num_gpus: 1.4",
        "17 …deployments[2].ray_actor_options.num_gpus: must be a whole number if it is above 1, got 1.4",
    ),
    ("num_gpus: 0.4", "num_gpus: -1", "17 …deployments[2].ray_actor_options.num_gpus: must be at least 0, got -1"),
    (
        "num_gpus: 0.4",
        "runtime_env: {env_vars: {OMP_NUM_THREADS: 2}}",
        "17 …deployments[2].ray_actor_options.runtime_env.env_vars.OMP_NUM_THREADS: "
        "must be text (put it in quotes), got 2",
    ),
    (
        "serve_app.app:build",
        "serve_app.app:biuld",
        "2 applications: no application has the import_path 'serve_app.app:build'",
    ),
]


@pytest.mark.parametrize(
    ("before", "after", "expected"), SERVE_FAULTS, ids=[after.strip() for _, after, _ in SERVE_FAULTS]
)
def test_check_file_finds_what_ray_accepts_in_silence(tmp_path: Path, before: str, after: str, expected: str) -> None:
    assert SERVE_FILE.count(before) == 1
    problems = lines(check_file(write(tmp_path, SERVE_FILE.replace(before, after))))
    assert expected.replace("…", "applications[0].") in problems


def test_check_file_finds_every_fault_of_a_serve_config_at_once(tmp_path: Path) -> None:
    text = SERVE_FILE
    faults = [
        ("port: 8000", "prot: 8000"),
        ("{threshold: 0.4}", "{thresh: 0.4}"),
        ("num_replicas: 1\n", "num_replicas: [5]\n"),
        ("user_config: {segmentation: {threshold: 0.3}}", "health_check_period_s: 0"),
        ("max_ongoing_requests: 16", "max_ongoing_requests: '16'"),
        ("max_replicas: 4", "max_replica: 4"),
        ("num_gpus: 0.4", "num_gpus: 1.4"),
    ]
    for before, after in faults:
        text = text.replace(before, after)
    assert [problem.line for problem in check_file(write(tmp_path, text))] == [1, 7, 10, 11, 13, 14, 17]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("applications: {}", ["1 applications: must be a list, got a mapping"], id="mapping-for-list"),
        pytest.param(
            "applications: []",
            ["1 applications: no application has the import_path 'serve_app.app:build'"],
            id="no-application",
        ),
        pytest.param("http_options: {}", ["1 the key 'applications' is missing"], id="applications-missing"),
        pytest.param(
            "applications: [{import_path: serve_app.app:build, args: [1]}]",
            ["1 applications[0].args: must be a mapping of keys, got a list"],
            id="list-for-args",
        ),
        pytest.param(
            "applications: [{import_path: serve_app.app:build, deployments: [5, {name: Ingres}]}]",
            [
                "1 applications[0].deployments[0]: must be a mapping of keys, got 5",
                "1 applications[0].deployments[1].name: unknown deployment 'Ingres'; did you mean 'Ingress'?",
            ],
            id="number-for-deployment",
        ),
        pytest.param(
            "applications: [{import_path: serve_app.app:build, deployments: [{name: Ingres, "
            "user_config: {segmentation: {treshold: 0.5}}}]}]",
            [
                "1 applications[0].deployments[0].name: unknown deployment 'Ingres'; did you mean 'Ingress'?",
                "1 applications[0].deployments[0].user_config.segmentation.treshold: unknown key 'treshold'; "
                "did you mean 'threshold'?",
            ],
            id="user-config-of-a-misspelt-deployment",
        ),
        pytest.param(
            "applications: [{import_path: serve_app.app:build, deployments: [{name: Ingress, "
            "num_replicas: [5], max_ongoing_requests: 0}]}]",
            [
                '1 applications[0].deployments[0].num_replicas: `num_replicas` must be an int or "auto", but got: [5]',
                "1 applications[0].deployments[0].max_ongoing_requests: must be greater than 0, got 0",
            ],
            id="a-fault-that-hides-another",
        ),
        pytest.param(
            "applications: [{import_path: serve_app.app:build, deployments: [{name: Ingress, "
            "autoscaling_config: {min_replicas: 4, max_replicas: many}}]}]",
            ["1 applications[0].deployments[0].autoscaling_config.max_replicas: must be a whole number, got 'many'"],
            id="a-number-that-others-depend-on",
        ),
        pytest.param(
            "applications: [{import_path: serve_app.app:build, args: {serving: {max_timeout_s: .inf}}}]",
            ["1 applications[0].args.serving.max_timeout_s: must be a finite number, got inf"],
            id="infinite-args",
        ),
    ],
)
def test_check_file_says_each_fault_of_an_odd_serve_config_once(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert lines(check_file(write(tmp_path, text))) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", "None the file is empty", id="empty"),
        pytest.param(b"# nothing but a comment\n", "None the file is empty", id="only-comments"),
        pytest.param(b"---\n~\n", "None the file is empty", id="null"),
        pytest.param(b"- a\n- b\n", "1 the file must be a mapping of keys, such as 'models:'", id="list"),
        pytest.param(b"just text", "1 the file must be a mapping of keys, such as 'models:'", id="text"),
        pytest.param(b"a: 1\nb: [1, 2\n", None, id="unclosed-bracket"),
        pytest.param(b"a: 1\n\tb: 2\n", None, id="tab"),
        pytest.param(b"models: !!python/object/apply:os.system ['true']\n", None, id="python-tag"),
        pytest.param(b"a: 1\n---\nb: 2\n", None, id="two-documents"),
        pytest.param(b"a: *missing\n", None, id="unknown-alias"),
        pytest.param(b"? [a, b]\n: 1\n", None, id="list-as-key"),
        pytest.param(b"models: &m\n  text_parser: *m\n", "None nests too deeply for a configuration", id="recursive"),
        pytest.param(
            b"a: 1\nb: \x00\x01\x02\n", "2 is not valid YAML: it holds control characters", id="control-characters"
        ),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "1 is not UTF-8 text", id="png"),
        pytest.param(b'a: "\\UFFFFFFFF"\n', None, id="impossible-escape"),
        pytest.param(b"[" * 5000, "None nests too deeply for a configuration", id="deep"),
        pytest.param(
            b"#" * (MAX_FILE_BYTES + 1),
            f"None is over {MAX_FILE_BYTES} bytes, too large for a configuration",
            id="huge",
        ),
        pytest.param(b"fetch: {timeout_s: 2024-99-99}\n", None, id="impossible-date"),
    ],
)
def test_check_file_gives_one_line_for_what_is_no_configuration(
    tmp_path: Path, data: bytes, expected: str | None
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    (problem,) = check_file(path)
    if expected:
        assert lines([problem]) == [expected]
    else:
        assert problem.message.startswith("is not valid YAML")
    assert "\n" not in problem.at(str(path))


def test_check_file_names_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert lines(check_file(tmp_path / "none.yaml")) == ["None no such file"]
    assert lines(check_file(tmp_path)) == ["None is a folder, not a file"]
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_file(tmp_path / "none.yaml")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_check_file_names_an_unreadable_file(tmp_path: Path) -> None:
    path = write(tmp_path, "models: {}\n")
    path.chmod(0)
    assert lines(check_file(path)) == ["None cannot be read: Permission denied"]


def test_check_file_follows_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = """\
    cache: &small {vision_bytes: 1}
    segmentation:
      <<: {threshold: 0.25}
      mask_threshold: 0.75
    """
    loaded = load_file(write(tmp_path, text))
    assert loaded.app.segmentation.threshold == 0.25
    assert loaded.app.segmentation.mask_threshold == 0.75


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_check_file_survives_any_damage(tmp_path: Path, data: st.DataObject) -> None:
    text = SERVE_FILE
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    path = tmp_path / "config.yaml"
    path.write_text(text[:start] + data.draw(st.text(max_size=12)) + text[end:], encoding="utf-8", errors="replace")
    for problem in check_file(path):
        assert problem.line is None or problem.line >= 1
        assert problem.message


def test_app_config_from_takes_every_default() -> None:
    assert app_config_from({}) == AppConfig()


def test_app_config_from_takes_back_what_it_gave() -> None:
    config = AppConfig.model_validate({"auth": {"tokens": ("a", "b")}, "segmentation": {"threshold": 0}})
    assert app_config_from(config.model_dump()) == config


@pytest.mark.parametrize(
    ("identity", "segmenter", "expected"),
    [
        ("auto", "embedded", "embedded"),
        ("auto", "facebook/sam3", None),
        ("none", "embedded", None),
        ("embedded", "facebook/sam3", "embedded"),
        ("facebook/dinov2-base", "embedded", "facebook/dinov2-base"),
    ],
)
def test_the_identity_model_is_the_embedded_one_beside_the_embedded_segmenter_and_else_the_one_named(
    identity: str, segmenter: str, expected: str | None
) -> None:
    models = {"identity": {"model_name": identity}, "segmentation": {"model_name": segmenter}}
    assert app_config_from({"models": models}).models.identity_name == expected


@pytest.mark.parametrize("url", ["localhost:8001/v1", "ftp://host/v1", "", "http://", "http://[::1", "/v1"])
def test_app_config_from_refuses_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        app_config_from({"models": {"text_parser": {"openai": {"base_url": url}}}})


def test_app_config_from_says_every_fault_in_one_line_each() -> None:
    with pytest.raises(ConfigError) as caught:
        app_config_from({"modles": {}, "segmentation": {"threshold": "high"}})
    assert sorted(caught.value.message.splitlines()) == [
        "modles: unknown key 'modles'; did you mean 'models'?",
        "segmentation.threshold: must be a number, got 'high'",
    ]
