"""Bearer tokens: a secret that is forgotten or cannot be sent is an error, never an open service."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.app import build
from serve_app.config.auth import accepted_tokens, api_key
from serve_app.config.files import check_environment, check_file
from serve_app.config.models import OpenAIConfig
from serve_app.config.schema import AuthConfig
from serve_app.errors import ConfigError

SERVE_CONFIG = """\
applications:
  - name: segmentation
    import_path: serve_app.app:build
    args: {}
    deployments:
      - name: Ingress
        user_config:
          auth: {token_env: GENSEG_TOKENS}
"""


@pytest.mark.parametrize(
    ("variable", "expected"),
    [(None, None), ("MODEL_KEY", "secret"), ("ANOTHER", None)],
    ids=["none asked for", "set", "not set"],
)
def test_the_key_of_a_model_s_server_comes_from_the_named_variable(variable: str | None, expected: str | None) -> None:
    assert api_key(OpenAIConfig(api_key_env=variable), {"MODEL_KEY": "secret"}) == expected


def test_no_configuration_asks_for_no_token() -> None:
    assert accepted_tokens(AuthConfig(), {}) == ()


def test_tokens_of_the_variable_follow_those_of_the_configuration() -> None:
    auth = AuthConfig(tokens=("a",), token_env="T")
    assert accepted_tokens(auth, {"T": " b, c ,,"}) == ("a", "b", "c")


@pytest.mark.parametrize("environment", [{}, {"T": ""}, {"T": " , "}], ids=["unset", "empty", "commas"])
def test_a_variable_without_a_token_is_an_error(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"auth\.token_env: the environment variable T is not set, or empty"):
        accepted_tokens(AuthConfig(tokens=("a",), token_env="T"), environment)


def test_a_token_that_no_header_can_carry_is_an_error_that_does_not_quote_it() -> None:
    with pytest.raises(ConfigError, match="printable ASCII") as caught:
        accepted_tokens(AuthConfig(token_env="T"), {"T": "sécret"})
    assert "cret" not in caught.value.message.replace("secret", "")


@pytest.mark.parametrize(
    "text",
    [
        'auth: {token_env: ""}',
        'auth: {tokens: [""]}',
        'auth: {tokens: ["two words"]}',
        "auth: {tokens: [ünïcode]}",
        "auth:",
        "auth: {}",
        "auth: {token_env: }",
        "auth: {tokens: []}",
        "auth: {tokens: [], token_env: }",
        "auth: hunter2secret",
    ],
)
def test_a_configuration_that_would_accept_everybody_or_nobody_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    problems = check_file(path)
    assert len(problems) == 1
    assert str(problems[0]).startswith("auth")
    assert "hunter2secret" not in str(problems[0])
    path.write_text(SERVE_CONFIG.replace("auth: {token_env: GENSEG_TOKENS}", text))
    assert len(check_file(path)) == 1
    path.write_text(SERVE_CONFIG.replace("args: {}", f"args: {{{text if ': ' in text else 'auth: null'}}}"))
    assert check_file(path)


def test_tokens_in_args_are_refused_where_they_would_be_logged(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"auth\.tokens: tokens are not allowed in args") as caught:
        build({"auth": {"tokens": ["open-sesame"]}})
    assert "sesame" not in caught.value.message
    path = tmp_path / "serve.yaml"
    path.write_text(SERVE_CONFIG.replace("args: {}", "args: {auth: {tokens: [open-sesame]}}"))
    (problem,) = check_file(path)
    assert (problem.line, problem.place) == (4, "applications[0].args.auth.tokens")
    assert "sesame" not in str(problem)


def test_tokens_in_the_user_config_and_in_a_file_of_our_own_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(SERVE_CONFIG.replace("token_env: GENSEG_TOKENS", "tokens: [open-sesame]"))
    assert check_file(path) == []
    path.write_text("auth: {tokens: [open-sesame]}")
    assert check_file(path) == []


@pytest.mark.parametrize(
    ("text", "line", "place"),
    [
        (SERVE_CONFIG, 8, "applications[0].deployments[0].user_config.auth.token_env"),
        (SERVE_CONFIG.replace("args: {}", "args: {auth: {token_env: GENSEG_TOKENS}}"), 4, "applications[0].args.auth"),
        ("auth:\n  token_env: GENSEG_TOKENS\n", 2, "auth.token_env"),
    ],
    ids=["user_config", "args", "own file"],
)
def test_check_environment_names_the_variable_that_is_not_set(tmp_path: Path, text: str, line: int, place: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    problem, *_ = check_environment(path, {"GENSEG_TOKENS": ""})
    assert problem.line == line
    assert problem.place.startswith(place)
    assert problem.message == (
        "the environment variable GENSEG_TOKENS is not set, or empty; "
        "with the environment of this command the service does not start"
    )
    assert check_environment(path, {"GENSEG_TOKENS": "x"}) == []
    unsendable, *_ = check_environment(path, {"GENSEG_TOKENS": "x, two words"})
    assert "printable ASCII" in unsendable.message
    assert "two words" not in unsendable.message


def test_check_environment_knows_the_variables_of_the_runtime_environment(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for value, faults in (("x", 0), ("''", 1)):
        variables = f"runtime_env: {{env_vars: {{GENSEG_TOKENS: {value}}}}}"
        path.write_text(SERVE_CONFIG.replace("    args: {}", f"    args: {{}}\n    {variables}"))
        assert len(check_environment(path, {"GENSEG_TOKENS": "y"})) == faults
