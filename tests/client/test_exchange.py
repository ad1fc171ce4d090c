"""When the client tries again, and how broken and slow connections end."""

from __future__ import annotations

import json
import pickle
import socket
import time
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from serve_app import errors
from serve_app.client import ConnectionFailed
from tests.client.service import Service, error_document, raw_server, read_request, result_document


@pytest.mark.parametrize("status", [429, 503])
def test_overload_is_tried_again_after_retry_after(ask: Any, service: Service, status: int) -> None:
    busy = JSONResponse(error_document("overloaded"), status, headers={"retry-after": "1"})
    service.will(busy, JSONResponse(result_document()))
    start = time.monotonic()
    assert ask(service.url, "segment", "A dog", [b"x"], b"y").prompt == "A dog"
    assert 1.0 <= time.monotonic() - start < 4.0
    first, second = service.seen
    assert first.fields == second.fields
    assert second.fields["generated"] == [("image_1", b"y")]


@pytest.mark.parametrize("method", ["segment", "segment_stream"])
def test_overload_is_given_up_after_max_retries(ask: Any, service: Service, method: str) -> None:
    service.will(*[JSONResponse(error_document("overloaded"), 429, headers={"retry-after": "0"})] * 2)
    with pytest.raises(errors.TooManyRequests) as caught:
        ask(service.url, method, "A dog", [b"x"], client={"max_retries": 1})
    assert caught.value.retry_after_s == 0.0
    assert len(service.seen) == 2


def test_overload_is_given_up_where_the_wait_would_pass_the_deadline(ask: Any, service: Service) -> None:
    service.will(PlainTextResponse("Service Unavailable", 503, headers={"retry-after": "100"}))
    start = time.monotonic()
    with pytest.raises(errors.Overloaded) as caught:
        ask(service.url, "segment", "A dog", [b"x"], timeout_s=5)
    assert time.monotonic() - start < 2.0
    assert caught.value.retry_after_s == 100.0
    assert len(service.seen) == 1


def test_refused_connection_is_tried_again(ask: Any) -> None:
    body = json.dumps({"entities": [], "dropped": []}).encode()

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    with raw_server(serve, delay_s=0.3) as (url, visits):
        assert ask(url, "entities", "fog").entities == []
        assert len(visits) == 1


def test_refused_connection_names_the_address_on_one_line(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionFailed, match=f"^{url}/v1/entities: cannot connect: .+$") as caught:
        ask(url, "entities", "fog", client={"max_retries": 0})
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.message == caught.value.message


CUTS = {
    "before the answer": b"",
    "in the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "in the body": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"prompt"',
    "in a chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"pro',
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.2\r\n",
}


@pytest.mark.parametrize("sent", CUTS.values(), ids=CUTS.keys())
@pytest.mark.parametrize("method", ["segment", "segment_stream"])
def test_cut_connection_is_an_error_and_not_tried_again(ask: Any, sent: bytes, method: str) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(sent)

    with raw_server(serve) as (url, visits):
        with pytest.raises(ConnectionFailed, match=f"^{url}/v1/segment: the connection broke") as caught:
            ask(url, method, "A dog", [b"x"])
        assert len(visits) == 1
    assert "\n" not in caught.value.message


def test_refusal_is_read_though_the_body_was_not(ask: Any) -> None:
    body = json.dumps(error_document("too_large", "the body is over 64 MiB")).encode()

    def serve(connection: socket.socket) -> None:
        connection.recv(1024)
        head = f"HTTP/1.1 413 Too Large\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):  # as servers do: the rest is read away, or a reset would eat the answer
            pass

    with raw_server(serve) as (url, _), pytest.raises(errors.TooLarge, match="over 64 MiB"):
        ask(url, "segment", "A dog", [bytes(8 << 20)])


def _trickle(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(60):
        connection.sendall(b" ")
        time.sleep(0.1)


def _silence(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)


@pytest.mark.parametrize("serve", [_silence, _trickle], ids=["silent", "trickling"])
def test_slow_server_ends_in_deadline_exceeded(ask: Any, serve: Any) -> None:
    with raw_server(serve) as (url, visits):
        start = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded, match=rf"^{url}/v1/segment: no answer within 0\.1 s$"):
            ask(url, "segment", "A dog", [b"x"], timeout_s=0.1)
        assert 0.1 <= time.monotonic() - start < 4.0
        assert len(visits) == 1
