"""The front proxy of cluster/: the real nginx with the real configuration, in front of a small upstream.

The upstream stands for Ray's HTTP proxy and records what reaches it. Everything listens on 127.0.0.1.
Without nginx these tests are skipped; with GENSEG_REQUIRE_NGINX=1 a missing nginx is a failure.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.config.files import load_file

ROOT = Path(__file__).parents[3]
FRONT_PROXY = ROOT / "cluster" / "front-proxy"
CONFIG = FRONT_PROXY / "nginx.conf"
MULTI_GPU = ROOT / "configs" / "multi-gpu.yaml"
HOST = "127.0.0.1"
MIB = 1024 * 1024
LARGE_ANSWER = json.dumps({"counts": "abc" * 10_000}).encode()
STEERING_HEADERS = (
    "serve_multiplexed_model_id",
    "x-session-id",
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
)


@dataclass
class Arrived:
    """One request as the upstream saw it. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Upstream:
    """A server in the place of Ray's HTTP proxy."""

    port: int
    arrived: list[Arrived] = field(default_factory=list)
    connections: int = 0
    finish_stream: threading.Event = field(default_factory=threading.Event)

    def last(self) -> Arrived:
        return self.arrived[-1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Upstream

    def setup(self) -> None:
        super().setup()
        self.state.connections += 1

    def do_GET(self) -> None:
        self._record(b"")
        self._answer(200, b'{"status": "ok"}', [("X-Request-ID", self.headers["X-Request-ID"] or "none")])

    def do_POST(self) -> None:
        if self.path == "/refused":
            self._record(b"")
            self._answer(415, b'{"error": {"code": "unsupported_media_type", "message": "no", "field": null}}', [])
            self.rfile.read(int(self.headers["Content-Length"]))
            return
        self._record(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/stream":
            self._stream()
        elif self.path == "/large":
            self._answer(200, LARGE_ANSWER, [])
        else:
            self._answer(200, b'{"entities": []}', [])

    def _record(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.state.arrived.append(Arrived(self.command, self.path, headers, body))

    def _answer(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b'13\r\n{"event": "first"}\n\r\n')
        self.wfile.flush()
        self.state.finish_stream.wait(5)
        self.wfile.write(b'12\r\n{"event": "last"}\n\r\n0\r\n\r\n')

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    class RecordingHandler(Handler):
        pass

    with ThreadingHTTPServer((HOST, 0), RecordingHandler) as server:
        RecordingHandler.state = Upstream(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield RecordingHandler.state
        server.shutdown()
        thread.join(5)


@pytest.fixture(scope="module")
def nginx() -> str:
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        if os.environ.get("GENSEG_REQUIRE_NGINX") == "1":
            pytest.fail("GENSEG_REQUIRE_NGINX=1, but nginx is not installed")
        pytest.skip("nginx is not installed: apt-get install nginx")
    return program


@dataclass
class Proxy:
    """A running front proxy."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path

    def memory_bytes(self) -> int:
        """Return the anonymous memory of the master and its workers."""
        pids = [self.process.pid, *self._workers()]
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return sum(int(kib) * 1024 for text in texts for kib in re.findall(r"RssAnon:\s+(\d+) kB", text))

    def _workers(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(program: str, folder: Path) -> list[str]:
    as_root = ["-g", "user root;"] if os.geteuid() == 0 else []  # pytest's folders are closed to other users
    return [program, "-e", "stderr", "-p", f"{folder}/", "-c", str(folder / "nginx.conf"), *as_root]


def write_config(folder: Path, port: int, upstream_port: int, **replaced: str) -> None:
    """Write the real configuration with another port and upstream; `replaced` sets directives, for shorter waits."""
    text = CONFIG.read_text()
    for name, value in replaced.items():
        text, count = re.subn(rf"^(\s*{name}) [^;]+;", rf"\1 {value};", text, flags=re.MULTILINE)
        assert count == 1, name
    (folder / "nginx.conf").write_text(text)
    (folder / "listen.conf").write_text(f"listen {HOST}:{port};\n")
    (folder / "upstream.conf").write_text(f"server {HOST}:{upstream_port};\n")


@contextmanager
def running_proxy(program: str, folder: Path, upstream_port: int, **replaced: str) -> Iterator[Proxy]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    write_config(folder, port, upstream_port, **replaced)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command(program, folder), stdout=log, stderr=log)
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection((HOST, port), 1):
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield Proxy(port, process, folder)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(nginx: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running_proxy(nginx, tmp_path_factory.mktemp("front-proxy"), upstream.port) as started:
        yield started


@pytest.fixture(scope="module")
def impatient(nginx: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The same proxy with timeouts of one second."""
    folder = tmp_path_factory.mktemp("impatient")
    timeouts = {"client_header_timeout": "1s", "client_body_timeout": "1s", "proxy_read_timeout": "1s"}
    with running_proxy(nginx, folder, upstream.port, **timeouts) as started:
        yield started


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def error(self) -> dict[str, Any]:
        """Return the error, and check the one shape that errors have."""
        assert self.headers["content-type"] == "application/json"
        document = json.loads(self.body)
        assert list(document) == ["error"]
        assert list(document["error"]) == ["code", "message", "field"]
        assert document["error"]["field"] is None
        return dict(document["error"])


def read_answer(connection: socket.socket) -> Answer:
    response = http.client.HTTPResponse(connection)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def raw(port: int, head: bytes, body: bytes = b"") -> Answer:
    """Send bytes as they are and read one answer."""
    with socket.create_connection((HOST, port), 10) as connection:
        connection.sendall(head + b"\r\n\r\n" + body)
        return read_answer(connection)


def get(port: int, path: str = "/healthz", *lines: bytes) -> Answer:
    return raw(port, b"\r\n".join([f"GET {path} HTTP/1.1".encode("latin-1"), b"Host: x", *lines]))


def with_urllib(port: int, path: str, body: bytes, content_type: str = "application/json") -> Answer:
    """POST with urllib, which always sends `Connection: close`."""
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", body, {"Content-Type": content_type})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        response = opener.open(request, timeout=20)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, response.read())


def test_nginx_accepts_the_files_as_they_stand(nginx: str, tmp_path: Path) -> None:
    for path in FRONT_PROXY.glob("*.conf"):
        shutil.copy(path, tmp_path)
    result = subprocess.run([*command(nginx, tmp_path), "-t"], capture_output=True, text=True, timeout=10)
    assert result.returncode == 0, result.stderr
    assert "warn" not in result.stderr


def test_a_request_passes_with_its_body_and_headers(proxy: Proxy, upstream: Upstream) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="generated"; filename="a"\r\n\r\n'
    body += os.urandom(20 * MIB) + b"\r\n--b--\r\n"
    lines = [
        b"POST /v1/segment?x=%C3%A9 HTTP/1.1",
        b"Host: api.example.com:8443",
        b"Authorization: Bearer secret",
        b"Content-Type: multipart/form-data; boundary=b",
        b"Accept: application/json",
        b"Origin: https://example.com",
        b"X-Request-ID: order-7/a",
        f"Content-Length: {len(body)}".encode(),
    ]
    answer = raw(proxy.port, b"\r\n".join(lines), body)
    arrived = upstream.last()
    assert answer.status == 200
    assert answer.headers["x-request-id"] == "order-7/a"
    assert (arrived.method, arrived.path, arrived.body == body) == ("POST", "/v1/segment?x=%C3%A9", True)
    for name, value in (
        ("host", "api.example.com:8443"),
        ("authorization", "Bearer secret"),
        ("content-type", "multipart/form-data; boundary=b"),
        ("accept", "application/json"),
        ("origin", "https://example.com"),
        ("x-request-id", "order-7/a"),
        ("x-forwarded-for", HOST),
        ("content-length", str(len(body))),
    ):
        assert arrived.headers[name] == value
    assert "connection" not in arrived.headers


def test_a_chunked_body_arrives_whole(proxy: Proxy, upstream: Upstream) -> None:
    head = b"POST /v1/entities HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
    assert raw(proxy.port, head, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").status == 200
    assert upstream.last().body == b"abcde"
    assert upstream.last().headers["content-length"] == "5"


def test_a_line_of_a_stream_arrives_before_the_service_has_finished(proxy: Proxy, upstream: Upstream) -> None:
    upstream.finish_stream.clear()
    connection = http.client.HTTPConnection(HOST, proxy.port, timeout=4)
    connection.request("POST", "/stream", b"{}", {"Accept": "application/x-ndjson"})
    response = connection.getresponse()
    assert response.readline() == b'{"event": "first"}\n'
    assert not upstream.finish_stream.is_set()
    upstream.finish_stream.set()
    assert response.read() == b'{"event": "last"}\n'
    connection.close()


@pytest.mark.parametrize(("accepted", "coding"), [("gzip", "gzip"), ("identity", None), ("", None)])
def test_a_large_answer_is_compressed_for_clients_that_take_it(proxy: Proxy, accepted: str, coding: str | None) -> None:
    connection = http.client.HTTPConnection(HOST, proxy.port, timeout=4)
    connection.request("POST", "/large", b"{}", {"Accept-Encoding": accepted})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.getheader("Content-Encoding") == coding
    assert response.getheader("Vary") == "Accept-Encoding"
    assert (gzip.decompress(answer) if coding else answer) == LARGE_ANSWER


def test_a_header_of_150_mb_is_refused_at_once(proxy: Proxy, upstream: Upstream) -> None:
    before, seen, started = proxy.memory_bytes(), len(upstream.arrived), time.monotonic()
    with socket.create_connection((HOST, proxy.port), 10) as connection:
        connection.sendall(b"GET /v1/segment HTTP/1.1\r\nHost: x\r\nX-A: ")
        sent = 0
        with suppress(ConnectionError):  # nginx may close the connection before all is sent
            for _ in range(150):
                connection.sendall(b"a" * MIB)
                sent += 1
                if sent == 1:
                    answer = read_answer(connection)
                    answered_s = time.monotonic() - started
                if sent % 50 == 0:
                    beside = time.monotonic()
                    assert get(proxy.port).status == 200
                    assert time.monotonic() - beside < 1
    assert (answer.status, answer.error()["code"]) == (431, "too_large")
    assert answered_s < 1
    assert proxy.memory_bytes() - before < 2 * MIB
    assert all(request.path == "/healthz" for request in upstream.arrived[seen:])


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        pytest.param([b"X-A: " + b"a" * 9000], 431, "too_large", id="one-long-line"),
        pytest.param([b"X-A%d: " % n + b"a" * 4000 for n in range(12)], 431, "too_large", id="many-lines"),
        pytest.param([b"X: y"] * 20_000, 431, "too_large", id="many-short-lines"),
        pytest.param([b"Transfer-Encoding: gzip"], 400, "invalid_request", id="unknown-transfer-encoding"),
        pytest.param([b"Content-Length: -1"], 400, "invalid_request", id="bad-length"),
        pytest.param([b"Content-Length: 67108865"], 413, "too_large", id="large-body"),
    ],
)
def test_refusals_have_the_one_shape_of_errors(proxy: Proxy, lines: list[bytes], status: int, code: str) -> None:
    answer = get(proxy.port, "/healthz", *lines)
    assert (answer.status, answer.error()["code"]) == (status, code)


def test_a_long_address_is_refused(proxy: Proxy) -> None:
    answer = get(proxy.port, "/" + "a" * 9000)
    assert (answer.status, answer.error()["code"]) == (414, "too_large")


def test_bytes_that_are_not_http_are_refused(proxy: Proxy) -> None:
    answer = raw(proxy.port, b"\x16\x03\x01\x02\x00 hello")
    assert answer.error()["code"] == "invalid_request"


def test_an_upload_over_the_limit_is_a_413_that_urllib_can_read(proxy: Proxy, upstream: Upstream) -> None:
    seen = len(upstream.arrived)
    for _ in range(3):
        answer = with_urllib(proxy.port, "/v1/segment", b" " * (70 * 1000 * 1000))
        assert (answer.status, answer.error()["code"]) == (413, "too_large")
    assert len(upstream.arrived) == seen


def test_a_chunked_upload_over_the_limit_is_a_413(proxy: Proxy, upstream: Upstream) -> None:
    seen = len(upstream.arrived)
    head = b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked"
    with socket.create_connection((HOST, proxy.port), 10) as connection:
        connection.sendall(head + b"\r\n\r\n")
        for _ in range(65):
            connection.sendall(b"100000\r\n" + b" " * MIB + b"\r\n")
        assert read_answer(connection).error()["code"] == "too_large"
    assert len(upstream.arrived) == seen


def test_an_early_refusal_of_the_service_reaches_urllib(proxy: Proxy) -> None:
    for _ in range(3):
        answer = with_urllib(proxy.port, "/refused", b" " * (8 * MIB), "text/plain")
        assert (answer.status, answer.error()["code"]) == (415, "unsupported_media_type")


def test_slow_headers_do_not_block_others(proxy: Proxy) -> None:
    with ExitStack() as stack:
        for _ in range(64):
            connection = stack.enter_context(socket.create_connection((HOST, proxy.port), 10))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-")
        for _ in range(5):
            started = time.monotonic()
            assert get(proxy.port).status == 200
            assert time.monotonic() - started < 1


def test_headers_that_do_not_end_in_time_close_the_connection(impatient: Proxy) -> None:
    with socket.create_connection((HOST, impatient.port), 10) as connection:
        started, closed = time.monotonic(), False
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-")
        connection.settimeout(0.1)
        for _ in range(30):  # a byte every 0.1 s: the limit counts all headers together
            try:
                connection.sendall(b"a")
                closed = connection.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
            break
        assert closed
        assert 0.5 < time.monotonic() - started < 2.5


def test_slow_bodies_never_reach_the_service(proxy: Proxy, upstream: Upstream) -> None:
    seen = (len(upstream.arrived), upstream.connections)
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection((HOST, proxy.port), 10)) for _ in range(24)]
        for connection in slow:
            connection.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(10):
            for connection in slow:
                connection.sendall(b" ")
            time.sleep(0.05)
        assert (len(upstream.arrived), upstream.connections) == seen
        assert get(proxy.port).status == 200


def test_a_body_that_pauses_closes_the_connection(impatient: Proxy, upstream: Upstream) -> None:
    seen, started = len(upstream.arrived), time.monotonic()
    with pytest.raises(http.client.RemoteDisconnected):
        raw(impatient.port, b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 1000", b"half")
    assert time.monotonic() - started < 3
    assert len(upstream.arrived) == seen


def test_one_address_holds_a_limited_number_of_requests(proxy: Proxy) -> None:
    with ExitStack() as stack:
        for _ in range(40):  # over the limit of 32: those beyond it are refused themselves
            connection = stack.enter_context(socket.create_connection((HOST, proxy.port), 10))
            connection.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        for _ in range(500):  # nginx has two workers, and one may be late on a busy machine
            answer = get(proxy.port)
            if answer.status != 200:
                break
            time.sleep(0.02)
        assert (answer.status, answer.error()["code"]) == (429, "overloaded")
        assert answer.headers["retry-after"] == "1"
        streamed = get(proxy.port, "/healthz", b"Accept: application/x-ndjson")
        assert (streamed.status, streamed.error()["code"]) == (429, "overloaded")
        assert get(proxy.port, "/-/front-proxy").status == 200
    for _ in range(50):
        if get(proxy.port).status == 200:
            break
        time.sleep(0.02)
    assert get(proxy.port).status == 200


def test_headers_that_steer_ray_s_proxy_are_removed(proxy: Proxy, upstream: Upstream) -> None:
    lines = [f"{name}: 0.001".encode() for name in STEERING_HEADERS]
    lines += [b"Upgrade: websocket", b"Connection: Upgrade", b"X-Unknown: caf\xe9", b"Keep-Alive: 5"]
    assert get(proxy.port, "/healthz", *lines).status == 200
    arrived = upstream.last().headers
    assert not {*STEERING_HEADERS, "upgrade", "connection", "x-unknown", "keep-alive"} & set(arrived)


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        pytest.param(b"4bf92f35-77b3@host:1", "4bf92f35-77b3@host:1", id="safe"),
        pytest.param(b"a" * 128, "a" * 128, id="longest"),
        pytest.param(b"a" * 5000, "a" * 128, id="cut"),
        pytest.param(b"two words", None, id="blank"),
        pytest.param(b'"quoted"', None, id="quotes"),
        pytest.param("é".encode(), None, id="utf-8"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_request_ids_are_capped_and_harmless(
    proxy: Proxy, upstream: Upstream, given: bytes, passed: str | None
) -> None:
    answer = get(proxy.port, "/healthz", b"X-Request-ID: " + given)
    assert answer.status == 200
    arrived = upstream.last().headers["x-request-id"]
    assert arrived == answer.headers["x-request-id"]
    assert re.fullmatch(passed or "[0-9a-f]{32}", arrived)


def test_answers_of_the_proxy_have_a_request_id(proxy: Proxy) -> None:
    for path, lines in (
        ("/-/routes", [b"X-Request-ID: mine"]),
        ("/", [b"X-Request-ID: mine", b"Content-Length: 67108865"]),
    ):
        assert get(proxy.port, path, *lines).headers["x-request-id"] == "mine"


@pytest.mark.parametrize(
    "value",
    [b"caf\xe9", b"\xff", b"\xc3", b"a\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xe9" + b"a" * 8000],
    ids=["latin-1", "ff", "cut-off", "surrogate", "overlong", "beyond-unicode", "long"],
)
@pytest.mark.parametrize("name", [b"X-Request-ID", b"Authorization", b"Accept", b"User-Agent", b"X-Forwarded-For"])
def test_header_bytes_that_are_not_utf8_are_refused(
    proxy: Proxy, upstream: Upstream, name: bytes, value: bytes
) -> None:
    seen = len(upstream.arrived)
    answer = get(proxy.port, "/readyz", name + b": " + value)
    assert (answer.status, answer.error()["code"]) == (400, "invalid_request")
    assert "UTF-8" in answer.error()["message"]
    assert len(upstream.arrived) == seen


def test_header_bytes_that_are_utf8_pass(proxy: Proxy, upstream: Upstream) -> None:
    text = "ä€😀 " * 500
    assert get(proxy.port, "/healthz", b"User-Agent: " + text.encode()).status == 200
    assert upstream.last().headers["user-agent"].encode("latin-1").decode().strip() == text.strip()


@pytest.mark.parametrize(
    "path",
    ["/-/routes", "/-/healthz", "//-/routes", "/a/../-/routes", "/%2d/routes", "/-/%72outes", "/-/errors/bad_request"],
)
def test_ray_s_own_routes_are_closed(proxy: Proxy, upstream: Upstream, path: str) -> None:
    seen = len(upstream.arrived)
    answer = get(proxy.port, path)
    assert (answer.status, answer.error()["code"]) == (404, "invalid_request")
    assert len(upstream.arrived) == seen


def test_connections_to_the_service_are_used_again(proxy: Proxy, upstream: Upstream) -> None:
    get(proxy.port)
    before = upstream.connections
    for _ in range(20):
        get(proxy.port)
    assert upstream.connections <= before + 1  # each of the two workers keeps its own


def test_a_service_that_is_away_is_a_503_with_retry_after(nginx: str, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind((HOST, 0))
        with running_proxy(nginx, tmp_path, taken.getsockname()[1]) as alone:
            for lines in ([], [b"Accept: application/x-ndjson"]):
                answer = get(alone.port, "/healthz", *lines)
                assert (answer.status, answer.error()["code"]) == (503, "overloaded")
                assert answer.headers["retry-after"] == "5"
            assert get(alone.port, "/-/front-proxy").body == b'{"status": "ok"}'


def test_no_answer_in_time_is_a_504(impatient: Proxy) -> None:
    with socket.create_server((HOST, 0)) as silent:
        folder = impatient.folder / "silent"
        folder.mkdir()
        program = str(impatient.process.args[0])  # type: ignore[index]
        with running_proxy(program, folder, silent.getsockname()[1], proxy_read_timeout="1s") as alone:
            answer = get(alone.port)
    assert (answer.status, answer.error()["code"]) == (504, "timeout")


def test_the_log_has_no_query_and_no_token(proxy: Proxy) -> None:
    get(proxy.port, "/healthz?key=hush-query", b"Authorization: Bearer hush-token", b"X-Request-ID: find-me")
    for _ in range(50):
        text = (proxy.folder / "log").read_text()
        if "find-me" in text:
            break
        time.sleep(0.02)
    (line,) = [json.loads(line) for line in text.splitlines() if "find-me" in line]
    assert (line["path"], line["status"], line["request_id"]) == ("/healthz", 200, "find-me")
    assert "hush" not in text


def directives() -> dict[str, list[str]]:
    """Return every directive of nginx.conf with its values, in the order of the file."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^\s*([a-z_]+) ([^;{]+);", CONFIG.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def in_bytes(text: str) -> int:
    units = {"k": 1024, "m": MIB, "Ki": 1024, "Mi": MIB, "Gi": 1024 * MIB}
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * units[unit]


def in_seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_limits_follow_the_service_s_configuration(path: Path) -> None:
    app, found = load_file(path).app, directives()
    http_options = yaml.safe_load(path.read_text())["http_options"]
    keep_alive_s = http_options.get("keep_alive_timeout_s", 90)
    clients, upstream = found["keepalive_timeout"]
    assert in_bytes(found["client_max_body_size"][0]) == app.limits.max_body_bytes
    assert f"limit of {app.limits.max_body_bytes} bytes" in CONFIG.read_text()
    assert in_seconds(found["client_body_timeout"][0]) == app.serving.body_pause_s
    assert in_seconds(found["proxy_read_timeout"][0]) > app.serving.max_timeout_s
    assert in_seconds(upstream) < keep_alive_s
    assert in_seconds(clients) > 60


def test_every_header_that_is_passed_on_is_checked() -> None:
    text = CONFIG.read_text()
    (checked,) = re.findall(r'map "([^"]+)" \$genseg_not_utf8', text)
    passed = [value.split()[-1] for value in directives()["proxy_set_header"]]
    from_callers = {value for value in passed if value.startswith(("$http_", "$proxy_add_"))}
    assert from_callers
    assert from_callers <= set(checked.split("|"))
    assert "$http_x_request_id" in checked.split("|")
    assert not {name.lower().replace("-", "_") for name in STEERING_HEADERS} & {
        value.split()[0].lower().replace("-", "_") for value in directives()["proxy_set_header"]
    }
