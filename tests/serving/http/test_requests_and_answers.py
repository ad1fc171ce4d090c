"""What HTTP clients do besides the job: addresses, methods, versions, charsets, ids, logs and the description."""

from __future__ import annotations

import asyncio
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from serve_app.config.schema import LimitsConfig
from serve_app.errors import InternalError
from serve_app.serving.http.docs_page import docs_page
from serve_app.serving.http.routes import make_app
from tests.serving.http.test_middleware import Client, scope
from tests.serving.http.test_routes import FakeService, body, client, error_of

# ---- addresses and methods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/segment/", "/v1/entities/", "/healthz/", "/readyz/", "/docs/", "/v1/segment//"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_slash_too_many_is_no_redirect_to_the_host_that_the_caller_claims(method: str, path: str) -> None:
    headers = {"Host": "evil.test", "X-Forwarded-Proto": "https"}
    async with client(FakeService()) as http:
        response = await http.request(method, path, headers=headers)
    assert response.status_code == 404
    assert "location" not in response.headers
    assert error_of(response) == {
        "code": "invalid_request",
        "message": f"not found; the route is {path.rstrip('/')}, without a slash at the end",
        "field": None,
    }


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/healthz", "GET, HEAD"), ("/readyz", "GET, HEAD"), ("/docs", "GET, HEAD"), ("/v1/segment", "POST")],
)
async def test_a_wrong_method_is_answered_with_every_right_one(path: str, allowed: str) -> None:
    async with client(FakeService()) as http:
        response = await http.request("DELETE", path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)
        for method in allowed.split(", "):
            assert (await http.request(method, path)).status_code != 405


@pytest.mark.parametrize("route", ["/v1/segment", "/v1/entities"])
@pytest.mark.parametrize(
    ("query", "name"), [("threshold=9", "threshold"), ("a=1&b=2", "a"), ("prompt", "prompt"), ("%00=SECRET", r"\x00")]
)
async def test_a_query_parameter_is_refused_by_name(route: str, query: str, name: str) -> None:
    async with client(FakeService()) as http:
        response = await http.post(f"{route}?{query}", json=body() if route == "/v1/segment" else {"prompt": "x"})
    assert response.status_code == 400
    error = error_of(response)
    assert error["field"] == name
    assert error["message"].startswith(f"the query parameter '{name}' is not supported")
    assert "SECRET" not in response.text


@pytest.mark.parametrize("path", ["/healthz?t=1", "/readyz?t=1", "/docs?x", "/openapi.json?x"])
async def test_a_query_of_a_probe_is_no_matter(path: str) -> None:
    async with client(FakeService()) as http:
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("path", "root_path", "status"),
    [
        ("/healthz", "", 200),
        ("/gw/healthz", "/gw", 200),
        ("/gw//healthz", "/gw/", 200),
        ("/gw/vision/healthz", "/gw/vision", 200),
        ("/gw/readyz", "/gw", 401),
        ("/gwhealthz", "/gw", 401),
        ("/gw/x/healthz", "/gw", 401),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_probe_needs_no_token_below_any_address(path: str, root_path: str, status: int, method: str) -> None:
    request = {**scope(path=path), "method": method, "root_path": root_path}
    connection = Client([b""])
    await make_app(FakeService(tokens=("t",)))(request, connection.receive, connection.send)
    assert connection.status == status


# ---- versions and bodies -------------------------------------------------------------------------------------------


class Waiting(Client):
    """A client that does not leave once it has sent its body."""

    async def receive(self) -> Any:
        message = await super().receive()
        return message if message["type"] == "http.request" else await asyncio.Event().wait()


@pytest.mark.parametrize(("version", "framed"), [("1.0", True), ("1.1", False)])
async def test_a_stream_to_an_old_client_has_a_known_length(version: str, framed: bool) -> None:
    content = json.dumps(body()).encode()
    headers = [(b"content-type", b"application/json"), (b"accept", b"application/x-ndjson")]
    connection, service = Waiting([content]), FakeService()
    await make_app(service)(scope(*headers, version=version), connection.receive, connection.send)
    sent = b"".join(message.get("body", b"") for message in connection.messages)
    answered = dict(connection.messages[0]["headers"])
    assert (connection.status, answered[b"content-type"]) == (200, b"application/x-ndjson")
    assert [json.loads(line)["event"] for line in sent.splitlines()] == ["entities", "result"]
    assert answered.get(b"content-length") == (str(len(sent)).encode() if framed else None)
    assert service.under_way == 0


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-gzip", "GZIP", "identity, gzip"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b", "text/plain"])
@pytest.mark.parametrize("route", ["/v1/segment", "/v1/entities"])
async def test_every_compression_is_refused_by_name(route: str, kind: str, coding: str) -> None:
    async with client(FakeService()) as http:
        headers = {"Content-Type": kind, "Content-Encoding": coding}
        response = await http.post(route, content=b"\x1f\x8b\x08", headers=headers)
    assert response.status_code == 415
    assert f"the Content-Encoding '{coding.lower()}' is not supported" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b'{"prompt": "\xb9\xb7"}', "application/json", "the body is not UTF-8 (byte 0xb9 at 12)"),
        (
            '{"prompt": "狗"}'.encode("gbk"),
            "application/json; charset=gbk",
            "the body is JSON in the charset 'gbk'; send it in UTF-8",
        ),
        (
            '{"prompt": "模"}'.encode("gbk"),  # these bytes are UTF-8, too: of another text
            'application/json;charset="GBK"',
            "the body is JSON in the charset 'gbk'; send it in UTF-8",
        ),
        (b'{"prompt": "a\\u0000b"}', "application/json", "prompt: has a NUL character, which is not text"),
    ],
)
async def test_json_that_is_no_unicode_text_is_refused(content: bytes, kind: str, message: str) -> None:
    async with client(FakeService()) as http:
        response = await http.post("/v1/entities", content=content, headers={"Content-Type": kind})
    assert (response.status_code, error_of(response)["message"]) == (400, message)


@pytest.mark.parametrize("kind", ["utf-8", "UTF-16", "gbk", "iso-8859-1"])
async def test_json_that_is_what_it_says_is_read(kind: str) -> None:
    text = "a dög" if kind.lower().startswith("utf") else "a dog"
    content = json.dumps({"prompt": text}, ensure_ascii=False).encode(kind)
    async with client(FakeService()) as http:
        headers = {"Content-Type": f"application/json; charset={kind}"}
        response = await http.post("/v1/entities", content=content, headers=headers)
    assert response.json()["entities"] == [text]


async def test_text_of_a_form_that_is_not_utf_8_is_refused_at_its_field() -> None:
    content = b"--b\r\nContent-Disposition: form-data; name=prompt\r\n\r\n\xb9\xb7\r\n--b--"
    async with client(FakeService()) as http:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        response = await http.post("/v1/segment", content=content, headers=headers)
    assert (response.status_code, error_of(response)["field"]) == (400, "prompt")
    assert "is not UTF-8" in error_of(response)["message"]


# ---- ids and logs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"abc", "abc"),
        ("é1".encode(), "é1"),
        (b" a ", "a"),
        (b"\xe9x", "x"),
        (b"", None),
        (b"   ", None),
        (b"\xff", None),
    ],
)
async def test_one_request_id_stands_in_the_header_the_job_and_the_log(
    given: bytes, kept: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ray.serve")
    service, connection = FakeService(), Client([json.dumps(body()).encode()])
    headers = ((b"content-type", b"application/json"), (b"x-request-id", given))
    await make_app(service)(scope(*headers), connection.receive, connection.send)
    (echoed,) = [value for name, value in connection.messages[0]["headers"] if name.lower() == b"x-request-id"]
    assert service.ids == [echoed.decode()]
    assert kept in {None, echoed.decode()}
    assert (kept is None) == (len(echoed) == 32)
    assert f"request {echoed.decode()} POST /v1/segment 200: " in caplog.text


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_a_request_is_one_line_in_the_log_with_sizes_and_times(
    accept: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ray.serve")
    content = json.dumps(body(prompt="SECRET", generated_image={"url": "http://a.test/?SECRET", "name": "SECRET"}))
    async with client(FakeService(tokens=("SECRET",))) as http:
        headers = {"Accept": accept, "X-Request-ID": "r1", "Authorization": "Bearer SECRET"}
        answer = await http.post(
            "/v1/segment", content=content, headers={**headers, "Content-Type": "application/json"}
        )
    (record,) = [record for record in caplog.records if record.name == "ray.serve"]
    assert re.fullmatch(
        rf"request r1 POST /v1/segment 200: \d+ ms, {len(content)} bytes in, {len(answer.content)} out, "
        r"images 2, objects 3, parse 12 ms, segment 34 ms, total 56 ms",
        record.getMessage(),
    )


async def test_a_failed_request_is_one_line_without_what_it_held(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ray.serve")
    async with client(FakeService(InternalError("the segmenter failed"))) as http:
        await http.post("/v1/segment", json=body(prompt="SECRET"), headers={b"X-Request-ID": "r\u00a01".encode()})
        await http.post("/SECRET?SECRET")
    lines = [record.getMessage() for record in caplog.records if record.name == "ray.serve"]
    assert len(lines) == 2
    assert lines[0].startswith(r"request r\xa01 POST /v1/segment 500: ")
    assert " POST other 404: " in lines[1]
    assert "SECRET" not in caplog.text


# ---- the description -----------------------------------------------------------------------------------------------


async def described(service: FakeService) -> dict[str, Any]:
    async with client(service) as http:
        return dict((await http.get("/openapi.json")).json())


async def test_the_description_names_the_limits_as_they_are() -> None:
    service = FakeService()
    for limits in (LimitsConfig(), LimitsConfig(max_images=3, max_entities=2, max_entity_chars=9, max_prompt_chars=7)):
        service.config = service.config.model_copy(update={"limits": limits})
        paths = (await described(service))["paths"]
        job = paths["/v1/segment"]["post"]["requestBody"]["content"]
        as_json, as_form = (job[kind]["schema"]["properties"] for kind in ("application/json", "multipart/form-data"))
        assert as_json["contextual_images"]["maxItems"] == as_form["contextual"]["maxItems"] == limits.max_images
        assert as_json["prompt"]["maxLength"] == as_form["prompt"]["maxLength"] == limits.max_prompt_chars
        for entities in (as_json["entities"]["anyOf"][0], as_form["entities"]):
            assert (entities["type"], entities["maxItems"]) == ("array", limits.max_entities)
            assert entities["items"]["maxLength"] == limits.max_entity_chars
        prompt = paths["/v1/entities"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert prompt["prompt"]["minLength"] == 1
        assert prompt["prompt"]["maxLength"] == limits.max_prompt_chars


async def test_every_route_describes_what_no_route_and_no_method_answer() -> None:
    paths = (await described(FakeService()))["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            expected = {"200", "404", "405", *(() if path == "/healthz" else ("401",))}
            assert expected <= operation["responses"].keys(), path
            for status, answer in operation["responses"].items():
                assert answer["content"], (path, status)


class Page(HTMLParser):
    """Collects a page's text and whatever it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.loads: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [(tag, value) for name, value in attrs if name in {"src", "href", "action", "srcset"}]
        assert tag not in {"script", "link", "img", "iframe"}

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_docs_are_complete_without_a_network() -> None:
    service = FakeService()
    async with client(service) as http:
        response = await http.get("/docs")
    assert service.answers == [("/docs", 200, None)]
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "://" not in response.text
    page = Page(response.text)
    assert page.loads == [("a", "openapi.json")]
    document = await described(service)
    for path, operations in document["paths"].items():
        assert f"{next(iter(operations)).upper()} {path}" in page.text
    for name in ("prompt", "contextual", "generated_image", "thresholds", "mask_format", "timeout_s", "mask_rle"):
        assert name in page.text
    assert "At most 4000 characters." in page.text
    assert '"rle" | "polygon" | "png" | "none"' in page.text
    assert "contextual_images[i].data" in page.text
    assert "generated_image.url" in page.text
    assert "Every error as application/json" in page.text
    for status in document["paths"]["/v1/segment"]["post"]["responses"]:
        assert status in page.text


async def test_the_docs_escape_what_they_show() -> None:
    document = {
        "info": {"title": "<b>", "version": "1"},
        "paths": {"/<x>": {"get": {"summary": "<script>", "responses": {"200": {"description": "<i>"}}}}},
    }
    page = docs_page(document)
    assert not re.search(r"<(script|i|b|x)>", page)
