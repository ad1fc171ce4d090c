"""OpenAIParser: prompts in, raw replies out, through any server that speaks OpenAI's chat API (vLLM, SGLang, ...).

The remote counterpart of `qwen3_vl`: the same chat, the same errors. Knows HTTP, but no environment variable, no
deadline of a request and no cache. For use from one event loop; any number of calls may run at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypedDict

import httpx

from serve_app.config.auth import api_key
from serve_app.config.schema import AppConfig, TextParserModel
from serve_app.entities.chat import chat_messages
from serve_app.errors import ConfigError, DeadlineExceeded, InternalError, InvalidModelReply, Overloaded
from serve_app.models.interface import RemoteParser
from serve_app.schemas.retry_after import read_retry_after

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
"""Pauses between tries double from the first to the longest; a `Retry-After` beyond the longest ends the tries."""

BUSY = frozenset({429, 500, 502, 503, 504, 529})

Sleep = Callable[[float], Awaitable[None]]


class ChatRequest(TypedDict):
    """The body of a call. Source: OpenAI's API reference, "Create chat completion"."""

    model: str
    messages: list[dict[str, object]]
    temperature: float
    max_tokens: int


def load(config: AppConfig) -> RemoteParser:
    """Make the client of the configured server; see config.engines."""
    model = config.models.text_parser
    return OpenAIParser(model, api_key=api_key(model.openai))


class OpenAIParser:
    """A client of one server and one of its models.

    Args:
        model: what the server calls the model, the longest reply, the server's address, the limit of one call and the
            number of further tries.
        api_key: sent as a bearer token; None sends none. Never logged and never part of a message.
        transport: replaces the network, for tests.
        sleep: waits between tries, in seconds.

    Raises:
        ConfigError: the address is not an http(s) URL, or the key cannot stand in a header.
    """

    def __init__(
        self,
        model: TextParserModel,
        *,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._model_name = model.model_name
        self._max_tokens = model.max_new_tokens
        self._config = model.openai
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            # One closing slash, so that paths are appended to it.
            base_url=self._config.base_url.rstrip("/") + "/",
            headers=authorization(api_key),
            timeout=self._config.timeout_s,
            transport=transport,
            # The address comes from the configuration: a proxy or a key from the environment would surprise.
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
        )

    async def reply(self, prompt: str) -> str:
        """Let the model answer a prompt.

        Args:
            prompt: an image-generation prompt.

        Returns:
            The raw reply.

        Raises:
            Overloaded: the server cannot be reached, or is busy or failing, after all tries.
            DeadlineExceeded: one call took longer than the configured limit.
            InvalidModelReply: the answer is not a chat completion with text.
            InternalError: the server refuses the call (a 4xx status): a matter of configuration.
        """
        body: ChatRequest = {
            "model": self._model_name,
            "messages": chat_messages(prompt),
            "temperature": 0,
            "max_tokens": self._max_tokens,
        }
        for further_tries in range(self._config.max_retries, -1, -1):
            pause_s = FIRST_PAUSE_S * 2 ** (self._config.max_retries - further_tries)
            try:
                return reply_text(await self._call("POST", "chat/completions", body))
            except Overloaded as error:
                asked_s = vars(error).get("retry_after_s", 0.0)  # only what the server asked, not the class's default
                if not further_tries or asked_s > LONGEST_PAUSE_S:
                    raise
                pause_s = min(max(pause_s, asked_s), LONGEST_PAUSE_S)
                logger.warning("%s; trying again in %.2f s", error.message, pause_s)
            await self._sleep(pause_s)
        raise AssertionError("unreachable: the last try returns or raises")

    async def check(self) -> None:
        """Tell whether the server answers, without a retry.

        Raises:
            Overloaded, DeadlineExceeded, InternalError: as `reply`.
        """
        await self._call("GET", "models", None)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _call(self, method: str, path: str, body: ChatRequest | None) -> httpx.Response:
        try:
            # httpx limits each read; a server that drips its answer is stopped here.
            async with asyncio.timeout(self._config.timeout_s):
                response = await self._client.request(method, path, json=body)
        except (TimeoutError, httpx.TimeoutException):
            raise DeadlineExceeded(
                f"the text model's server did not answer within {self._config.timeout_s:g} s"
            ) from None
        except httpx.HTTPError as error:
            # Only the kind of the error: its text may quote the headers, and so the key.
            raise busy(f"the text model's server cannot be reached ({type(error).__name__})", None) from None
        return accepted(response)


def authorization(api_key: str | None) -> dict[str, str]:
    """Build the header that carries the key; empty without one.

    Raises:
        ConfigError: the key holds characters that no header can.
    """
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("models.text_parser.openai.api_key_env: the key holds characters that no header can")
    return {"Authorization": f"Bearer {key}"} if key else {}


def accepted(response: httpx.Response) -> httpx.Response:
    """Return a 2xx response as it is.

    Raises:
        Overloaded: 429 or 5xx; carries the response's `Retry-After`.
        InternalError: anything else. The body is not quoted: it may repeat the key or the prompt.
    """
    status = response.status_code
    if response.is_success:
        return response
    if status in BUSY or status > 500:
        raise busy(f"the text model's server is busy or failing (status {status})", response.headers.get("Retry-After"))
    hint = {401: "; check the API key", 403: "; check the API key", 404: "; check the base URL and the model name"}
    raise InternalError(f"the text model's server refused the call (status {status}){hint.get(status, '')}")


def busy(message: str, retry_after: str | None) -> Overloaded:
    """Build an Overloaded with the seconds of a `Retry-After` header, where there is a readable one."""
    error = Overloaded(message)
    seconds = read_retry_after(retry_after, datetime.now(UTC))
    if seconds is not None:
        error.retry_after_s = seconds
    return error


def reply_text(response: httpx.Response) -> str:
    """Take the reply out of a chat completion.

    Raises:
        InvalidModelReply: the body is not JSON of that shape, or has no text.
    """
    try:
        text = response.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise InvalidModelReply("the text model's server answered without a chat completion") from None
    if not isinstance(text, str):
        raise InvalidModelReply("the text model's server answered without text")
    return text
