from __future__ import annotations

import asyncio
import gzip
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serve_app.config.schema import FetchConfig
from serve_app.errors import FetchFailed, InternalError, TooLarge
from serve_app.serving.connections import HostResolver
from serve_app.serving.fetch import ImageFetcher

BODY = bytes(range(256)) * 4
CERTIFICATE = Path(__file__).parents[1] / "data" / "images.test.pem"
Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A real HTTP server on 127.0.0.1: `answer` writes what it likes; the requests are kept."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[str] = []
        self.server_names: list[str | None] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.requests.append(request)
                await self.answer(request.split(" ")[1], writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: Answer, tls: bool = False) -> AsyncIterator[Server]:
    server = Server(answer)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        context.sni_callback = lambda _socket, name, _context: server.server_names.append(name)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


@asynccontextmanager
async def fetching(
    max_bytes: int = 100_000, resolve: Any = None, ssl_context: ssl.SSLContext | None = None, **config: Any
) -> AsyncIterator[ImageFetcher]:
    fetcher = ImageFetcher(FetchConfig(**config), max_bytes, resolve=resolve, ssl_context=ssl_context)
    try:
        yield fetcher
    finally:
        await fetcher.aclose()


def reply(body: bytes = BODY, status: str = "200 OK", **headers: str) -> Answer:
    async def answer(_path: str, writer: asyncio.StreamWriter) -> None:
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{''.join(lines)}\r\n"
        writer.write(head.encode("latin-1") + body)

    return answer


def redirect(location: str) -> Answer:
    return reply(b"", "302 Found", Location=location)


def raw(*parts: bytes, pause_s: float = 0.0, forever: bool = False) -> Answer:
    """Write parts with pauses between, the last again and again if `forever`, and hang up."""

    async def answer(_path: str, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        while forever:
            writer.write(parts[-1])
            await writer.drain()
            await asyncio.sleep(pause_s)
        writer.close()

    return answer


def names(**addresses: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A resolver that knows these names (`a` is a.test) and counts nothing else as a name."""

    async def resolve(host: str, _port: int) -> list[str]:
        if host.removesuffix(".test") not in addresses:
            raise OSError("no such host")
        return addresses[host.removesuffix(".test")]

    return resolve


# ---- what is fetched -----------------------------------------------------------------------------------------------


async def test_fetch_gives_the_body_of_an_allowed_host() -> None:
    async with serving(reply()) as server, fetching(allowed_hosts=(f"127.0.0.1:{server.port}",)) as fetcher:
        assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/a%20b.png?x=%0d%0a1#part") == BODY
    lines = server.requests[0].split("\r\n")
    assert lines[0] == "GET /a%20b.png?x=%0d%0a1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines


async def test_fetch_connects_to_the_resolved_address_and_keeps_the_name() -> None:
    async with (
        serving(reply()) as server,
        fetching(resolve=names(images=["127.0.0.1"]), allowed_hosts=("IMAGES.test",)) as fetcher,
    ):
        assert await fetcher.fetch(f"http://images.test:{server.port}/") == BODY
    assert f"\r\nHost: images.test:{server.port}\r\n" in server.requests[0]


async def test_fetch_uses_the_next_address_where_the_first_does_not_answer() -> None:
    async with (
        serving(reply()) as server,
        fetching(resolve=names(images=["127.0.0.9", "127.0.0.1"]), allowed_hosts=("images.test",)) as fetcher,
    ):
        assert await fetcher.fetch(f"http://images.test:{server.port}/") == BODY


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("bücher.test", "http://bücher.test:{port}/"),
        ("bücher.test", "http://xn--bcher-kva.test:{port}/"),
        ("a.test.", "http://A.TEST:{port}/"),
        ("a.test", "http://a.test.:{port}/"),
        ("a.test:{port}", "http://a.test:{port}/"),
    ],
)
async def test_fetch_compares_allowed_hosts_in_one_form(entry: str, url: str) -> None:
    async def resolve(host: str, _port: int) -> list[str]:
        assert host.isascii()
        return ["127.0.0.1"]

    async with (
        serving(reply()) as server,
        fetching(resolve=resolve, allowed_hosts=(entry.format(port=server.port),)) as fetcher,
    ):
        assert await fetcher.fetch(url.format(port=server.port)) == BODY


async def test_fetch_follows_redirects_up_to_the_limit() -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        step = int(path.strip("/"))
        await (reply() if step == 0 else redirect(f"/{step - 1}"))(path, writer)

    async with serving(answer) as server, fetching(allowed_hosts=("127.0.0.1",), max_redirects=2) as fetcher:
        assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/2") == BODY
        with pytest.raises(FetchFailed, match=r"^127\.0\.0\.1 redirects more than 2 times$"):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/3")


async def test_fetch_keeps_no_cookies_and_asks_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(reply(Set_Cookie="a=b; Path=/")) as server, serving(reply(b"proxy")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with fetching(allowed_hosts=("127.0.0.1",)) as fetcher:
            for _ in range(2):
                assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/") == BODY
    assert len(server.requests) == 2
    assert not any("cookie" in request.lower() for request in server.requests)
    assert not proxy.requests


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_fetch_unpacks_a_compressed_body(coding: str) -> None:
    packed = gzip.compress(BODY, mtime=0) if coding == "gzip" else zlib.compress(BODY)
    async with (
        serving(reply(packed, Content_Encoding=coding)) as server,
        fetching(allowed_hosts=("127.0.0.1",)) as fetcher,
    ):
        assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/") == BODY


# ---- what is refused -----------------------------------------------------------------------------------------------

REFUSED_HOSTS = {
    "loopback": "127.0.0.1",
    "loopback-short": "127.1",
    "loopback-decimal": "2130706433",
    "loopback-hex": "0x7f000001",
    "loopback-hex-dotted": "0x7f.0x0.0x0.0x1",
    "localhost": "localhost",
    "localhost-dot": "localhost.",
    "zero": "0",
    "unspecified": "0.0.0.0",
    "v6-loopback": "[::1]",
    "v6-mapped": "[::ffff:127.0.0.1]",
    "v6-mapped-hex": "[::ffff:7f00:1]",
    "v6-unspecified": "[::]",
    "nat64": "[64:ff9b::7f00:1]",
    "metadata": "169.254.169.254",
    "private": "10.0.0.1",
}


@pytest.mark.parametrize("host", REFUSED_HOSTS.values(), ids=REFUSED_HOSTS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_fetch_refuses_private_addresses_in_every_form_with_one_message(scheme: str, host: str) -> None:
    async with serving(reply()) as server, fetching(allowed_hosts=("other.test",)) as fetcher:
        with pytest.raises(FetchFailed) as caught:
            await fetcher.fetch(f"{scheme}://{host}:{server.port}/")
        assert (
            caught.value.message == f"{host.strip('[]')} has an address that is not public, or redirects to such a host"
        )
    assert not server.requests


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"], ["::1"], ["fe80::1%lo"], [], ["x"]],
    ids=str,
)
async def test_fetch_refuses_names_of_which_any_address_is_private(addresses: list[str]) -> None:
    async with serving(reply()) as server, fetching(resolve=names(a=addresses)) as fetcher:
        with pytest.raises(FetchFailed) as caught:
            await fetcher.fetch(f"http://a.test:{server.port}/")
        assert caught.value.message == "a.test has an address that is not public, or redirects to such a host"
    assert not server.requests


@pytest.mark.parametrize("error", [OSError("no such host"), UnicodeError("label too long")], ids=repr)
async def test_fetch_says_that_a_name_does_not_resolve(error: Exception) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise error

    async with (
        serving(redirect("https://gone.test/a.png?key=SECRET")) as server,
        fetching(resolve=resolve, allowed_hosts=("127.0.0.1",)) as fetcher,
    ):
        with pytest.raises(FetchFailed, match=r"^gone\.test does not resolve to an address$"):
            await fetcher.fetch("https://gone.test/a.png?key=SECRET")
        with pytest.raises(
            FetchFailed, match=r"^127\.0\.0\.1 redirects to a host that does not resolve to an address$"
        ):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/café.png".encode(), "/caf%C3%A9.png"),
        (b"/caf\xe9.png", "/caf%E9.png"),
        ("中文.png?q=狗#x".encode(), "/dir/%E4%B8%AD%E6%96%87.png?q=%E7%8B%97"),
        (b"?q=\xb9\xb7", "/dir/start?q=%B9%B7"),
        (b"/a%20b%E9.png", "/a%20b%E9.png"),
        (b"/a b.png", "/a%20b.png"),
        ("http://127.0.0.1:{port}/é".encode(), "/%C3%A9"),
        (b"//127.0.0.1:{port}/\xe9", "/%E9"),
        ("http://bücher.test:{port}/é".encode(), "/%C3%A9"),
        (b"http://b\xfccher.test:{port}/", None),
    ],
    ids=ascii,
)
async def test_fetch_asks_for_the_bytes_of_a_location_as_they_are(location: bytes, asked: str | None) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        port = str(writer.get_extra_info("sockname")[1]).encode()
        head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location.replace(b"{port}", port)
        await (raw(head + b"\r\n\r\n") if path == "/dir/start" else reply())(path, writer)

    resolve, allowed = names(**{"xn--bcher-kva": ["127.0.0.1"]}), ("127.0.0.1", "bücher.test")
    async with serving(answer) as server, fetching(resolve=resolve, allowed_hosts=allowed) as fetcher:
        url = f"http://127.0.0.1:{server.port}/dir/start"
        if asked is None:
            with pytest.raises(FetchFailed, match="redirects to an address that is not allowed"):
                await fetcher.fetch(url)
        else:
            assert await fetcher.fetch(url) == BODY
            assert server.requests[-1].split(" ")[1] == asked


async def test_fetch_resolves_a_name_once_so_that_it_cannot_change_between_check_and_connection() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.9"]])

    async def resolve(_host: str, _port: int) -> list[str]:
        return next(answers)

    async with (
        serving(raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", BODY)) as server,
        fetching(resolve=resolve, allowed_hosts=("a.test",)) as fetcher,
    ):
        assert await fetcher.fetch(f"http://a.test:{server.port}/") == BODY
        with pytest.raises(FetchFailed, match=r"^a\.test cannot be connected to$"):
            await fetcher.fetch(f"http://a.test:{server.port}/")
    assert len(server.requests) == 1


async def test_fetch_checks_the_second_hop_like_the_first() -> None:
    async with (
        serving(reply()) as secret,
        serving(redirect(f"http://127.0.0.1:{secret.port}/")) as server,
        fetching(allowed_hosts=(f"127.0.0.1:{server.port}",)) as fetcher,
    ):
        with pytest.raises(FetchFailed) as caught:
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
    assert caught.value.message == "127.0.0.1 has an address that is not public, or redirects to such a host"
    assert server.requests
    assert not secret.requests


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/x",
        "data:image/png;base64,AAAA",
        "http://a@b.test/",
        "http://b.test:99999/",
    ],
)
async def test_fetch_refuses_redirects_to_other_schemes_and_to_no_url(location: str) -> None:
    async with serving(redirect(location)) as server, fetching(allowed_hosts=("127.0.0.1",)) as fetcher:
        with pytest.raises(FetchFailed, match=r"^127\.0\.0\.1 redirects to an address that is not allowed$"):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")


async def test_fetch_ends_a_redirect_loop() -> None:
    async with serving(redirect("/")) as server, fetching(allowed_hosts=("127.0.0.1",)) as fetcher:
        with pytest.raises(FetchFailed, match=r"redirects more than 3 times$"):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="nothing"),
        pytest.param("image.png", id="path"),
        pytest.param("//127.0.0.1/", id="no-scheme"),
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("gopher://127.0.0.1:6379/_INFO", id="gopher"),
        pytest.param("ftp://127.0.0.1/", id="ftp"),
        pytest.param("data:image/png;base64,AAAA", id="data"),
        pytest.param("unix:///var/run/docker.sock", id="unix"),
        pytest.param("http:///path", id="no-host"),
        pytest.param("http://", id="scheme-only"),
        pytest.param("http://127.0.0.1:{port}@b.test/", id="user-name-that-looks-like-a-host"),
        pytest.param("http://user:secret@127.0.0.1:{port}/", id="user-and-password"),
        pytest.param("http://127.0.0.1:{port}\\@b.test/", id="backslash"),
        pytest.param("http://127.0.0.1:{port}/\r\nX-Evil: 1", id="line-break-in-path"),
        pytest.param("http://127.0.0.1:{port}\r\nX-Evil: 1/", id="line-break-in-host"),
        pytest.param("http://127.0.0.1\0.b.test:{port}/", id="nul-in-host"),
        pytest.param("http://0177.0.0.1:{port}/", id="octal"),
        pytest.param("http://127.0.0.1:99999/", id="port-out-of-range"),
        pytest.param("http://127.0.0.1:0/", id="port-zero"),
        pytest.param("http://127.0.0.1:x/", id="port-no-number"),
        pytest.param("http://[::1/", id="open-bracket"),
        pytest.param("http://" + "a" * 70_000, id="too-long"),
    ],
)
async def test_fetch_refuses_what_is_no_plain_web_address(url: str) -> None:
    async with serving(reply()) as server, fetching(allowed_hosts=("127.0.0.1",)) as fetcher:
        with pytest.raises(FetchFailed) as caught:
            await fetcher.fetch(url.format(port=server.port))
        assert len(caught.value.message.splitlines()) == 1
        assert "secret" not in caught.value.message
    assert not server.requests


@pytest.mark.parametrize(
    "host",
    [
        "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
        "127\u30020\u30020\u30021",
        "\u24db" + "ocalhost",
        "a" * 64 + ".test",
        "-.test",
        "a..test",
    ],
)
async def test_fetch_refuses_odd_unicode_and_malformed_names(host: str) -> None:
    async with serving(reply()) as server, fetching() as fetcher:
        with pytest.raises(FetchFailed):
            await fetcher.fetch(f"http://{host}:{server.port}/")
    assert not server.requests


async def test_fetch_refuses_everything_where_it_is_switched_off() -> None:
    async with serving(reply()) as server, fetching(enabled=False, allowed_hosts=("127.0.0.1",)) as fetcher:
        with pytest.raises(FetchFailed, match=r"^this service does not fetch URLs; send the image itself$"):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
    assert not server.requests


# ---- sizes and times -----------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(50_000_000), mtime=0)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reply(bytes(1001)), id="one-byte-more"),
        pytest.param(raw(HEAD + b"Content-Length: 5000000000\r\n\r\n", b"a", pause_s=5), id="announced"),
        pytest.param(raw(HEAD + b"\r\n", bytes(500), forever=True), id="endless"),
        pytest.param(
            raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\naaaa\r\n", forever=True), id="endless-chunks"
        ),
        pytest.param(raw(HEAD + b"Content-Encoding: gzip\r\n\r\n", BOMB[:900]), id="compressed"),
    ],
)
async def test_fetch_stops_at_the_size_limit(answer: Answer) -> None:
    async with (
        serving(answer) as server,
        fetching(max_bytes=1000, allowed_hosts=("127.0.0.1",), timeout_s=4) as fetcher,
    ):
        with pytest.raises(TooLarge, match=r"^the fetched file is over the limit of 1000 bytes$"):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")


async def test_fetch_takes_a_body_of_exactly_the_limit() -> None:
    for answer in (reply(bytes(1000)), reply(gzip.compress(bytes(1000), mtime=0), Content_Encoding="gzip")):
        async with serving(answer) as server, fetching(max_bytes=1000, allowed_hosts=("127.0.0.1",)) as fetcher:
            assert await fetcher.fetch(f"http://127.0.0.1:{server.port}/") == bytes(1000)


async def slow_redirects(path: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.2)
    await redirect(path + "x")(path, writer)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(raw(HEAD + b"Content-Length: 90\r\n\r\n", b"a", pause_s=0.05, forever=True), id="drip"),
        pytest.param(raw(b"H", pause_s=30), id="slow-header"),
        pytest.param(raw(HEAD, b"X: y\r\n", pause_s=0.05, forever=True), id="endless-header"),
        pytest.param(raw(b"HTTP/1.1 103 Early Hints\r\n\r\n", pause_s=0.02, forever=True), id="endless-hints"),
        pytest.param(slow_redirects, id="all-hops-together"),
    ],
)
async def test_fetch_stops_at_the_time_limit(answer: Answer) -> None:
    async with (
        serving(answer) as server,
        fetching(allowed_hosts=("127.0.0.1",), timeout_s=0.5, max_redirects=10) as fetcher,
    ):
        begin = time.monotonic()
        with pytest.raises(FetchFailed, match=r"^127\.0\.0\.1 did not send the image within 0\.5 s$"):
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
        assert 0.4 < time.monotonic() - begin < 5


async def test_fetch_counts_the_name_lookup_as_time() -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        await asyncio.sleep(30)
        return ["127.0.0.1"]

    async with fetching(resolve=resolve, timeout_s=0.1) as fetcher:
        with pytest.raises(FetchFailed, match=r"within 0\.1 s$"):
            await fetcher.fetch("http://a.test/")


async def test_fetch_works_after_more_failures_than_it_has_connections() -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        await (reply() if path == "/good" else raw(HEAD, pause_s=30))(path, writer)

    async with serving(answer) as server, fetching(allowed_hosts=("127.0.0.1",), timeout_s=0.7) as fetcher:
        url = f"http://127.0.0.1:{server.port}"
        slow = await asyncio.gather(*[fetcher.fetch(url + "/slow") for _ in range(300)], return_exceptions=True)
        assert {type(error) for error in slow} == {FetchFailed}
        assert await fetcher.fetch(url + "/good") == BODY


# ---- bad answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply(status="404 Not Found"), "answered with status 404"),
        (reply(status="500 Oops"), "answered with status 500"),
        (reply(status="302 Found"), "answered with status 302"),
        (reply(b""), "answered with an empty body"),
        (raw(HEAD + b"Content-Length: 100\r\n\r\nabc"), "closed the connection too early, or does not speak HTTP"),
        (raw(b"220 mail.test ESMTP\r\n"), "closed the connection too early, or does not speak HTTP"),
        (raw(b""), "closed the connection too early, or does not speak HTTP"),
        (raw(HEAD + b"X: " + b"y" * 200_000), "closed the connection too early, or does not speak HTTP"),
        (reply(Content_Encoding="br"), "answered with a compression that was not requested"),
        (reply(Content_Encoding="gzip"), "answered with a broken compressed body"),
        (reply(gzip.compress(BODY, mtime=0)[:-9], Content_Encoding="gzip"), "answered with a broken compressed body"),
        (
            reply(gzip.compress(BODY, mtime=0) + bytes(70_000), Content_Encoding="gzip"),
            "answered with a broken compressed body",
        ),
    ],
)
async def test_fetch_says_what_was_wrong_with_the_answer(answer: Answer, message: str) -> None:
    async with serving(answer) as server, fetching(allowed_hosts=("127.0.0.1",), timeout_s=5) as fetcher:
        with pytest.raises(FetchFailed) as caught:
            await fetcher.fetch(f"http://127.0.0.1:{server.port}/")
    assert caught.value.message == f"127.0.0.1 {message}"


async def test_fetch_says_that_nothing_listens() -> None:
    async with serving(reply()) as server:
        port = server.port
    async with fetching(allowed_hosts=("127.0.0.1",)) as fetcher:
        with pytest.raises(FetchFailed, match=r"^127\.0\.0\.1 cannot be connected to$"):
            await fetcher.fetch(f"http://127.0.0.1:{port}/")


# ---- https ---------------------------------------------------------------------------------------------------------


async def test_fetch_checks_the_certificate_against_the_name_and_sends_it() -> None:
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with serving(reply(), tls=True) as server:
        resolve = names(images=["127.0.0.1"], other=["127.0.0.1"])
        hosts = ("images.test", "other.test")
        async with fetching(resolve=resolve, allowed_hosts=hosts, ssl_context=trusting) as fetcher:
            assert await fetcher.fetch(f"https://images.test:{server.port}/") == BODY
            with pytest.raises(FetchFailed, match=r"^other\.test has no valid certificate$"):
                await fetcher.fetch(f"https://other.test:{server.port}/")
    assert server.server_names == ["images.test", "other.test"]
    assert len(server.requests) == 1


async def test_fetch_trusts_no_unknown_authority() -> None:
    async with (
        serving(reply(), tls=True) as server,
        fetching(resolve=names(images=["127.0.0.1"]), allowed_hosts=("images.test",)) as fetcher,
    ):
        with pytest.raises(FetchFailed, match=r"^images\.test has no valid certificate$"):
            await fetcher.fetch(f"https://images.test:{server.port}/")
    assert not server.requests


async def test_host_resolver_gives_addresses_without_repeats() -> None:
    found = await HostResolver()("localhost", 80)
    assert found
    assert set(found) <= {"127.0.0.1", "::1"}
    assert len(set(found)) == len(found)


# ---- secrets and changes -------------------------------------------------------------------------------------------

SIGNED = "/a.png?X-Signature=SECRET#SECRET"


@pytest.mark.parametrize(
    "answer",
    [
        reply(status="403 SECRET"),
        redirect("http://u:SECRET@a.test/SECRET"),
        redirect("http://10.0.0.1/?SECRET"),
        redirect("https://[SECRET/"),
        redirect("?SECRET"),
        raw(b"SECRET"),
        raw(HEAD + b"Content-Length: SECRET\r\n\r\n"),
        raw(b"H", pause_s=5),
        reply(b"SECRET" * 99, Content_Encoding="gzip"),
        reply(Content_Encoding="SECRET"),
    ],
)
async def test_no_error_and_no_log_has_the_secret_of_a_signed_url(
    answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "ray.serve")
    async with serving(answer) as server, fetching(allowed_hosts=("127.0.0.1",), timeout_s=1) as fetcher:
        with pytest.raises(FetchFailed) as caught:
            await fetcher.fetch(f"http://127.0.0.1:{server.port}{SIGNED}")
    assert "SECRET" not in caught.value.message + caplog.text
    assert caught.value.__suppress_context__


async def test_an_error_that_nobody_foresaw_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        raise RuntimeError("http://a.test/?SECRET")

    async with fetching(resolve=resolve) as fetcher:
        with pytest.raises(InternalError, match=r"^the image could not be fetched$"):
            await fetcher.fetch("http://a.test/?SECRET")
    assert "a fetch failed: RuntimeError at " in caplog.text
    assert "SECRET" not in caplog.text


async def test_a_retired_fetcher_closes_when_its_last_fetch_is_done() -> None:
    gate = asyncio.Event()

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/slow":
            await gate.wait()
        await reply()(path, writer)

    async with serving(answer) as server:
        fetcher = ImageFetcher(FetchConfig(allowed_hosts=("localhost",)), 100_000)
        url = f"http://localhost:{server.port}"
        assert await fetcher.fetch(url + "/quick") == BODY
        slow = asyncio.ensure_future(fetcher.fetch(url + "/slow"))
        while not any("/slow" in request for request in server.requests):
            await asyncio.sleep(0.01)
        fetcher.retire()
        await asyncio.sleep(0.05)
        assert fetcher._pool.connections
        gate.set()
        assert await slow == BODY
        async with asyncio.timeout(2):
            while fetcher._pool.connections or any("resolver" in each.name for each in threading.enumerate()):
                await asyncio.sleep(0.01)


async def test_a_fetcher_that_never_fetched_is_retired_at_once() -> None:
    fetcher = ImageFetcher(FetchConfig(), 100)
    resolver = fetcher._resolver
    assert isinstance(resolver, HostResolver)
    fetcher.retire()
    with pytest.raises(RuntimeError, match="after shutdown"):
        await resolver("localhost", 80)
