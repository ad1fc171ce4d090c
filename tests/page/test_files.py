"""The page's files as the service sends them: types, ETags, security headers, access. No browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from serve_app.config.schema import ServingConfig
from serve_app.images.palette import colour_at
from serve_app.serving.http.page_files import page_files
from serve_app.serving.http.routes import make_app
from tests.serving.http.test_routes import FakeService, client, error_of

FILES = page_files()
POLICY = "default-src 'self'; img-src 'self' data: blob:"
TYPES = {
    "/": "text/html; charset=utf-8",
    "/page/style.css": "text/css; charset=utf-8",
    "/page/main.js": "text/javascript; charset=utf-8",
    "/page/icon.svg": "image/svg+xml",
    "/page/examples/generated.jpg": "image/jpeg",
}


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def http(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service) as opened:
        yield opened


@pytest.mark.parametrize("path", TYPES)
async def test_a_file_has_its_type_and_the_security_headers(http: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await http.request(method, path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == TYPES[path]
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.content == (FILES[path].content if method == "GET" else b"")


@pytest.mark.parametrize("path", TYPES)
@pytest.mark.parametrize("written", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_client_that_has_a_file_is_told_so(http: httpx.AsyncClient, path: str, written: str) -> None:
    etag = (await http.get(path)).headers["etag"]
    again = await http.get(path, headers={"If-None-Match": written.format(etag)})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await http.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


def test_etags_differ_where_files_do() -> None:
    assert len({file.etag for file in FILES.values()}) == len({file.content for file in FILES.values()})


async def test_the_configuration_switches_the_page_off_and_on(http: httpx.AsyncClient, service: FakeService) -> None:
    service.config = service.config.model_copy(update={"serving": ServingConfig(page=False)})
    for path in TYPES:
        answer = await http.get(path)
        assert (answer.status_code, error_of(answer)["code"]) == (404, "invalid_request")
    assert (await http.get("/docs")).status_code == 200
    service.config = service.config.model_copy(update={"serving": ServingConfig()})
    assert (await http.get("/")).status_code == 200


async def test_the_page_is_open_and_what_it_calls_is_not() -> None:
    async with client(FakeService(tokens=("secret",))) as http:
        for path in TYPES:
            assert (await http.get(path)).status_code == 200
        for path in ("/readyz", "/docs", "/page/nothing.js", "/page/", "/page/../readyz", "/page/examples/"):
            assert (await http.get(path)).status_code == 401
        assert (await http.post("/v1/segment")).status_code == 401


@pytest.mark.parametrize(
    "path", ["/page/nothing.js", "/page/", "/page/index.html", "/page/view.html", "/page/%2e%2e/routes.py"]
)
async def test_nothing_else_is_sent(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, error_of(answer)["code"]) == (404, "invalid_request")


async def test_a_prefix_without_its_slash_leads_to_the_page_by_a_relative_address() -> None:
    transport = httpx.ASGITransport(make_app(FakeService(tokens=("secret",))), root_path="/a/twins")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.get("/a/twins", headers={"Host": "evil.test"})
        assert (answer.status_code, answer.headers["location"]) == (307, "twins/")
        assert (await http.get("/a/twins/")).content == FILES["/"].content
        assert (await http.get("/a/twins/page/main.js")).status_code == 200


def test_the_page_loads_its_own_files_only_and_has_no_inline_code() -> None:
    html = FILES["/"].content.decode()
    named = set(re.findall(r'(?:href|src)="([^"]*)"', html)) - {"#result", "docs"}
    assert {f"/{name}" for name in named} <= set(FILES)
    assert not re.search(r"<style|\bstyle=|\bon\w+=|<script(?![^>]*\bsrc=)", html)
    for path, file in FILES.items():
        if path.endswith(".jpg"):
            continue
        text = file.content.decode().replace("http://www.w3.org/2000/svg", "")
        code = "\n".join(line for line in text.splitlines() if not line.strip().startswith(("//", "/*", "*")))
        assert "://" not in code, path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", code), path
        assert len(text.splitlines()) < 300, path


def test_every_module_is_fetched_at_once_and_the_page_is_small() -> None:
    preloaded = set(re.findall(r'rel="modulepreload" href="(.*?)"', FILES["/"].content.decode()))
    modules = {path[1:] for path in FILES if path.endswith(".js")}
    others = {"page/main.js", "page/worker.js", "page/view.js", "page/rows.js"}  # the last two belong to `genseg view`
    assert preloaded == modules - others
    assert sum(len(file.content) for path, file in FILES.items() if "examples" not in path) < 100_000


def test_the_page_draws_in_the_colours_of_the_service_s_overlays() -> None:
    listed = re.findall(r"\[(\d+), (\d+), (\d+)\]", FILES["/page/colours.js"].content.decode())
    assert [tuple(map(int, each)) for each in listed] == [colour_at(place) for place in range(32)]
    assert colour_at(32) == colour_at(0)


async def test_the_docs_allow_their_own_style_and_no_other(http: httpx.AsyncClient) -> None:
    answer = await http.get("/docs")
    policy = answer.headers["content-security-policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert "style=" not in answer.text
