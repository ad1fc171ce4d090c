"""Pages of other sites cannot call a service that needs no token."""

from __future__ import annotations

import pytest

from tests.serving.http.test_routes import FakeService, body, client, error_of

OWN = [
    pytest.param({}, id="no origin: not a page"),
    pytest.param({"Origin": "http://test"}, id="its own"),
    pytest.param({"Origin": "http://TEST:80"}, id="its own, port and case written otherwise"),
    pytest.param({"Origin": "https://test"}, id="TLS ends at a proxy"),
    pytest.param({"Origin": "http://test:8000", "Host": "test:8000"}, id="with a port"),
    pytest.param({"Origin": "http://[::1]:8000", "Host": "[::1]:8000"}, id="IPv6"),
    pytest.param({"Origin": "https://public.example", "X-Forwarded-Host": "public.example"}, id="the proxy names it"),
    pytest.param({"Origin": "https://a.example", "X-Forwarded-Host": "a.example, inner"}, id="two proxies"),
    pytest.param({"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}, id="the browser says so"),
]
FOREIGN = [
    pytest.param({"Origin": "http://evil.example"}, id="another host"),
    pytest.param({"Origin": "http://test:3000"}, id="another port"),
    pytest.param({"Origin": "http://test.evil.example"}, id="its name in another"),
    pytest.param({"Origin": "http://test@evil.example"}, id="its name as a user"),
    pytest.param({"Origin": "null"}, id="a file or a sandbox"),
    pytest.param({"Origin": ""}, id="empty"),
    pytest.param({"Origin": "http://[broken"}, id="no address"),
    pytest.param({"Origin": "http://test:99999"}, id="no port"),
    pytest.param({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, id="the browser says so"),
    pytest.param({"Origin": "http://other.test", "Sec-Fetch-Site": "same-site"}, id="a sister"),
    pytest.param({"Origin": "http://evil.example", "X-Forwarded-Host": "public.example"}, id="not the proxy's either"),
    pytest.param({"Origin": "chrome-extension://abc", "Host": "abc:1"}, id="an extension"),
]


@pytest.mark.parametrize("headers", OWN)
async def test_a_page_of_the_service_itself_may_use_it(headers: dict[str, str]) -> None:
    service = FakeService()
    async with client(service) as http:
        assert (await http.post("/v1/segment", json=body(), headers=headers)).status_code == 200
    assert len(service.requests) == 1


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_page_of_another_site_may_not(headers: dict[str, str]) -> None:
    service = FakeService()
    async with client(service) as http:
        for method, path in (
            ("POST", "/v1/segment"),
            ("POST", "/v1/entities"),
            ("GET", "/readyz"),
            ("OPTIONS", "/v1/segment"),
        ):
            answer = await http.request(method, path, json=body(), headers=headers)
            assert answer.status_code == 403
            assert error_of(answer)["code"] == "invalid_request"
            assert "access-control-allow-origin" not in answer.headers
        assert headers["Origin"][:80] in error_of(answer)["message"]
        assert (await http.get("/healthz", headers=headers)).status_code == 200
    assert service.requests == []


@pytest.mark.parametrize("headers", FOREIGN)
async def test_with_a_token_the_origin_does_not_matter(headers: dict[str, str]) -> None:
    async with client(FakeService(tokens=("secret",))) as http:
        allowed = {**headers, "Authorization": "Bearer secret"}
        assert (await http.post("/v1/segment", json=body(), headers=allowed)).status_code == 200
        assert (await http.post("/v1/segment", json=body(), headers=headers)).status_code == 401
