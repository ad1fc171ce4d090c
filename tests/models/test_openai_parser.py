from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from serve_app.config.schema import DeviceConfig, OpenAIConfig, TextParserModel
from serve_app.entities.chat import chat_messages
from serve_app.errors import ConfigError, DeadlineExceeded, GensegError, InternalError, InvalidModelReply, Overloaded
from serve_app.models import locations
from serve_app.models.openai_parser import OpenAIParser
from serve_app.models.qwen3_vl import EntityParser
from tests.conftest import free_port

KEY = "sk-very-secret"


@dataclass(frozen=True)
class Answer:
    """One scripted HTTP answer."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    after_s: float = 0.0
    drip_s: float = 0.0
    hang_up: bool = False


def completion(text: object) -> Answer:
    return Answer(body=json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode())


@dataclass
class ScriptedServer:
    """A real HTTP server that gives the scripted answers in turn (the last one for ever) and notes what it was sent."""

    answers: list[Answer]
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> ScriptedServer:
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.requests.append((self.command, self.path, headers, json.loads(body) if body else None))
                script.send(self, script.answers[min(len(script.requests), len(script.answers)) - 1])

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64  # callers at once; the default of 5 turns some away on a busy machine

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer.hang_up:
            handler.close_connection = True
            return
        time.sleep(answer.after_s)
        try:
            handler.send_response(answer.status)
            for name, value in answer.headers:
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(answer.body)))
            handler.end_headers()
            for byte in answer.body if answer.drip_s else ():
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(answer.drip_s)
            if not answer.drip_s:
                handler.wfile.write(answer.body)
        except OSError:
            pass  # the client gave up, as some tests want it to


@dataclass
class Pauses:
    """Sleeps no time and remembers how long it should have."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def config(url: str, **options: Any) -> TextParserModel:
    return TextParserModel(
        model_name="some/model", engine="openai", max_new_tokens=99, openai=OpenAIConfig(base_url=url, **options)
    )


async def reply_of(*answers: Answer, **options: Any) -> tuple[str | GensegError, ScriptedServer, Pauses]:
    pauses = Pauses()
    with ScriptedServer(list(answers)) as server:
        parser = OpenAIParser(config(server.url, **options), api_key=KEY, sleep=pauses)
        try:
            return await parser.reply("A dog"), server, pauses
        except GensegError as error:
            return error, server, pauses
        finally:
            await parser.aclose()


async def test_reply_sends_the_same_chat_greedily() -> None:
    reply, server, _ = await reply_of(completion('["dog"]'))

    assert reply == '["dog"]'
    (method, path, headers, body) = server.requests[0]
    assert (method, path) == ("POST", "/v1/chat/completions")
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {"model": "some/model", "messages": chat_messages("A dog"), "temperature": 0, "max_tokens": 99}


@pytest.mark.parametrize(
    ("answers", "pauses"),
    [
        pytest.param([Answer(503)], [0.25], id="503"),
        pytest.param([Answer(429), Answer(500)], [0.25, 0.5], id="429, then 500"),
        pytest.param([Answer(429, headers=(("Retry-After", "3"),))], [3.0], id="as long as the server asks"),
        pytest.param([Answer(429, headers=(("Retry-After", "0"),))], [0.25], id="no wait asked"),
        pytest.param([Answer(503, headers=(("Retry-After", "soon"),))], [0.25], id="unreadable Retry-After"),
        pytest.param([Answer(hang_up=True), Answer(502)], [0.25, 0.5], id="connection cut"),
    ],
)
async def test_reply_tries_again(answers: list[Answer], pauses: list[float]) -> None:
    reply, server, slept = await reply_of(*answers, completion('["dog"]'), max_retries=2)

    assert reply == '["dog"]'
    assert len(server.requests) == len(answers) + 1
    assert slept.seconds == pauses


@pytest.mark.parametrize(
    ("answer", "options", "error", "message", "calls"),
    [
        pytest.param(Answer(503), {"max_retries": 2}, Overloaded, "status 503", 3, id="busy after all tries"),
        pytest.param(Answer(529), {"max_retries": 0}, Overloaded, "status 529", 1, id="no tries allowed"),
        pytest.param(Answer(429, headers=(("Retry-After", "60"),)), {}, Overloaded, "status 429", 1, id="asks long"),
        pytest.param(Answer(hang_up=True), {"max_retries": 1}, Overloaded, "cannot be reached", 2, id="connection cut"),
        pytest.param(Answer(400, KEY.encode()), {}, InternalError, "status 400", 1, id="bad request"),
        pytest.param(Answer(401, KEY.encode()), {}, InternalError, "status 401.*check the API key", 1, id="bad key"),
        pytest.param(Answer(404), {}, InternalError, "status 404.*model name", 1, id="unknown model"),
        pytest.param(Answer(302, headers=(("Location", "/"),)), {}, InternalError, "status 302", 1, id="redirect"),
        pytest.param(Answer(body=b"<html>"), {}, InvalidModelReply, "without a chat completion", 1, id="not JSON"),
        pytest.param(Answer(body=b"\xff\xfe\xfd"), {}, InvalidModelReply, "without a chat", 1, id="not even text"),
        pytest.param(Answer(body=b"[]"), {}, InvalidModelReply, "without a chat completion", 1, id="a list"),
        pytest.param(Answer(body=b'{"choices": []}'), {}, InvalidModelReply, "without a chat", 1, id="no choice"),
        pytest.param(completion(None), {}, InvalidModelReply, "without text", 1, id="no text"),
        pytest.param(completion(["x"]), {}, InvalidModelReply, "without text", 1, id="parts in place of text"),
        pytest.param(Answer(after_s=1.0), {"timeout_s": 0.2}, DeadlineExceeded, "0.2 s", 1, id="too slow"),
        pytest.param(
            Answer(body=b" " * 100, drip_s=0.05), {"timeout_s": 0.4}, DeadlineExceeded, "0.4 s", 1, id="drips"
        ),
    ],
)
async def test_reply_maps_failures(
    answer: Answer,
    options: dict[str, Any],
    error: type[GensegError],
    message: str,
    calls: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="serve_app")
    outcome, server, _ = await reply_of(answer, **options)

    assert type(outcome) is error
    with pytest.raises(error, match=message):
        raise outcome
    assert len(server.requests) == calls
    assert KEY not in str(outcome) + caplog.text
    assert "127.0.0.1" not in str(outcome)


async def test_reply_passes_the_server_s_retry_after_on() -> None:
    asked, _, _ = await reply_of(Answer(429, headers=(("Retry-After", "60"),)))
    silent, _, _ = await reply_of(Answer(503), max_retries=0)

    assert isinstance(asked, Overloaded)
    assert isinstance(silent, Overloaded)
    assert (asked.retry_after_s, silent.retry_after_s) == (60.0, Overloaded.retry_after_s)


async def test_reply_names_a_server_that_is_not_there() -> None:
    pauses = Pauses()
    parser = OpenAIParser(config(f"http://127.0.0.1:{free_port()}/v1", max_retries=1), sleep=pauses)

    with pytest.raises(Overloaded, match="cannot be reached"):
        await parser.reply("A dog")
    assert pauses.seconds == [0.25]
    await parser.aclose()


async def test_reply_serves_many_callers_at_once() -> None:
    with ScriptedServer([Answer(body=completion("[]").body, after_s=0.2)]) as server:
        parser = OpenAIParser(config(server.url + "/"))
        start = time.perf_counter()
        replies = await asyncio.gather(*(parser.reply(str(index)) for index in range(20)))
        await parser.aclose()

    assert replies == ["[]"] * 20
    assert time.perf_counter() - start < 20 * 0.2 / 2
    assert {body["messages"][1]["content"][0]["text"] for *_, body in server.requests} == set(map(str, range(20)))
    assert all("authorization" not in headers for _, _, headers, _ in server.requests)


async def test_check_asks_for_the_models() -> None:
    with ScriptedServer([Answer(body=b'{"data": []}'), Answer(503), Answer(401)]) as server:
        parser = OpenAIParser(config(server.url))
        await parser.check()
        with pytest.raises(Overloaded):
            await parser.check()
        with pytest.raises(InternalError):
            await parser.check()
        await parser.aclose()

    assert [(method, path) for method, path, *_ in server.requests] == [("GET", "/v1/models")] * 3


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "nul\x00"])
def test_constructor_refuses_a_key_no_header_can_hold_and_does_not_repeat_it(key: str) -> None:
    with pytest.raises(ConfigError, match="api_key_env") as caught:
        OpenAIParser(config("http://127.0.0.1:1/v1"), api_key=key)
    assert key not in str(caught.value)


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real `transformers serve`."""
    pytest.importorskip("openai")  # it needs that package's types
    home, port = tmp_path_factory.mktemp("hub"), free_port()
    (home / "hub").mkdir()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=(home / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for_health(f"http://127.0.0.1:{port}/health", process, home / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"the server did not come up: {log.read_text()[-2000:]}")


@pytest.mark.timeout(400)  # two more processes' worth of imports
async def test_reply_of_a_real_server_is_that_of_the_local_model(transformers_serve: str) -> None:
    torch.set_num_threads(1)
    prompts = ["A dog sitting on a red sofa, soft light", "Two cats\n\nand a wooden bench"]
    local = EntityParser.load(TextParserModel(device_map="cpu", max_new_tokens=40), DeviceConfig()).generate_each(
        prompts
    )
    remote = OpenAIParser(
        TextParserModel(
            model_name=locations.resolve("embedded", "parser"),
            engine="openai",
            max_new_tokens=40,
            openai=OpenAIConfig(base_url=transformers_serve, timeout_s=120),
        )
    )
    await remote.check()
    replies = await asyncio.gather(*map(remote.reply, prompts))
    await remote.aclose()

    assert all(reply.startswith(mine) for reply, mine in zip(replies, local, strict=True))
    assert replies[0] != replies[1]
