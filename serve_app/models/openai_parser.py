"""Defines OpenAIParser, which sends prompts to a server with OpenAI's chat API (vLLM, SGLang, ...).

It is the remote counterpart of `qwen3_vl`: it sends the same chat, and returns the raw replies. It does not read
environment variables and does not cache. Its time limit applies to one call; the caller watches the deadline of the
request. Use it from one event loop; any number of calls may run at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
from pydantic import JsonValue

from serve_app.config.auth import api_key
from serve_app.config.models import TextParserModel
from serve_app.config.schema import AppConfig
from serve_app.entities.chat import CutReply, prompt_text, text_messages
from serve_app.errors import InvalidModelReply, ModelUnavailable, Overloaded, TooLarge
from serve_app.models.interface import RemoteParser
from serve_app.models.openai_calls import (
    SUBSTITUTES,
    Body,
    authorization,
    call_parameters,
    without_parameter,
)
from serve_app.models.openai_refusal import Refusal, read_refusal
from serve_app.schemas.retry_after import read_retry_after

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
"""The first and the longest pause between two attempts. Each pause is twice as long as the one before it. If a server's
`Retry-After` is above the longest pause, there is no further attempt."""

BUSY = frozenset({429, 503, 529})
"""HTTP status codes of a server that is busy."""

CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
"""Finish reasons of a reply that was cut off. Source: the API references of OpenAI, Anthropic, Gemini and Mistral."""

Sleep = Callable[[float], Awaitable[None]]


def load(config: AppConfig) -> RemoteParser:
    """Create the client of the configured server. `config.engines` names this function.

    Raises:
        ConfigError: the key cannot be sent in a header.
    """
    model = config.models.text_parser
    return OpenAIParser(model, api_key=api_key(model.openai))


class OpenAIParser:
    """A client of one server and one of its models.

    Args:
        model: the model's name on the server, the longest reply, the server's address, the time limit of one call and
            the number of retries.
        api_key: sent as a bearer token; None sends none. It is never logged and never part of a message.
        transport: replaces the network, for tests.
        sleep: waits between attempts; its argument is in seconds.

    Raises:
        ConfigError: the key cannot be sent in a header.
    """

    def __init__(
        self,
        model: TextParserModel,
        *,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._key = (api_key or "").strip()
        self._reply_tokens = model.max_new_tokens
        self._parameters = call_parameters(model)
        self._own = {*SUBSTITUTES} - {*model.openai.extra_body}  # parameters that may be replaced: not the operator's
        self._refused: frozenset[str] = frozenset()
        self._config = model.openai
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            # The URL must end with one slash, so that httpx appends paths to it.
            base_url=self._config.base_url.rstrip("/") + "/",
            headers=authorization(api_key),
            timeout=self._config.timeout_s,
            transport=transport,
            # Address and key come from the configuration. Proxies and keys from environment variables must not apply.
            trust_env=False,
            limits=httpx.Limits(max_connections=None),
        )

    async def reply(self, prompt: str) -> str:
        """Request the model's reply to a prompt.

        Args:
            prompt: an image-generation prompt.

        Returns:
            The raw reply; a CutReply if the reply reached its length limit.

        Raises:
            Overloaded: the server is still busy at the last attempt.
            ModelUnavailable: the server cannot be reached or fails at the last attempt, does not answer within the
                configured time, or refuses the call (a 4xx status).
            TooLarge: the prompt is longer than the model's context.
            InvalidModelReply: the answer is not a chat completion with text.
        """
        for further_tries in range(self._config.max_retries, -1, -1):
            pause_s = FIRST_PAUSE_S * 2 ** (self._config.max_retries - further_tries)
            try:
                return reply_text(await self._ask(prompt))
            except (Overloaded, ModelUnavailable) as error:
                # vars() has a value only if one was set on this error. It leaves out the default of the error's class.
                asked_s = vars(error).get("retry_after_s", 0.0)
                helps = isinstance(error, Overloaded) or error.retry_after_s is not None
                if not (helps and further_tries) or asked_s > LONGEST_PAUSE_S:
                    raise
                pause_s = min(max(pause_s, asked_s), LONGEST_PAUSE_S)
                logger.warning("%s; trying again in %.2f s", error.message, pause_s)
            except TimeoutError:
                raise self._late() from None
            await self._sleep(pause_s)
        raise AssertionError("unreachable: the last try returns or raises")

    async def check(self) -> None:
        """Check that the server answers. Does not retry.

        Raises:
            Overloaded: the server is busy.
            ModelUnavailable: the server cannot be reached, fails, does not answer in time, or refuses the call.
        """
        try:
            response = await self._call("GET", "models", None)
        except TimeoutError:
            raise self._late() from None
        if not response.is_success:
            raise self._refused_call(response, read_refusal(response.status_code, response.content), "")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, prompt: str) -> httpx.Response:
        """Call the server; if it refuses a parameter, call again without that parameter or with its substitute.

        Later calls do the same only after the server has accepted such a call. The reason is that a refusal may repeat
        words of the prompt, and one caller's prompt must not change the calls of others.
        """
        text = prompt_text(prompt)
        parameters, refused = self._parameters, self._refused
        messages: list[JsonValue] = [{**message} for message in text_messages(text)]
        while True:
            body: Body = {**parameters, "messages": messages}
            response = await self._call("POST", "chat/completions", body)
            if response.is_success:
                self._learn(parameters, refused)
                return response
            refusal = read_refusal(response.status_code, response.content).without(self._key, text)
            if refusal.says_too_long(self._reply_tokens):
                logger.warning("the prompt is too long for the text model: %s", refusal.reason(self._key, text))
                raise TooLarge("prompt: longer than the text model reads", "prompt")
            name = refusal.does_not_take(body.keys() & SUBSTITUTES.keys() & self._own)
            if name is None:
                raise self._refused_call(response, refusal, text)
            refused = refused | {name}
            parameters = without_parameter(parameters, name, refused)

    def _learn(self, parameters: Body, refused: frozenset[str]) -> None:
        """Use these parameters for all further calls, unless another call has already learned of the same refusals."""
        news = refused - self._refused
        if not news:
            return
        self._parameters, self._refused = parameters, refused
        for name in sorted(news):
            other = SUBSTITUTES[name]
            logger.warning(
                "the text model's server does not accept %s; %s",
                name,
                f"sending {other} in its place" if other in parameters else "leaving it out",
            )

    async def _call(self, method: str, path: str, body: Body | None) -> httpx.Response:
        """Make one HTTP call.

        Raises:
            TimeoutError: the server did not answer within the time limit of one call.
            ModelUnavailable: the server cannot be reached.
        """
        try:
            # The timeout of httpx applies to each read. This one applies to the call, also if the answer comes slowly.
            async with asyncio.timeout(self._config.timeout_s):
                return await self._client.request(method, path, json=body)
        except httpx.TimeoutException:
            raise TimeoutError from None
        except httpx.HTTPError as error:
            # Name only the type of the error, because its text may quote the headers, and the key with them.
            raise failing(f"the text model's server cannot be reached ({type(error).__name__})", None) from None

    def _late(self) -> ModelUnavailable:
        return failing(f"the text model's server did not answer within {self._config.timeout_s:g} s", None)

    def _refused_call(self, response: httpx.Response, refusal: Refusal, text: str) -> Overloaded | ModelUnavailable:
        """Build the error for an answer that is not a success, and log the server's reason.

        The message does not contain the reason, because the reason may contain the server's paths or the prompt.
        """
        status, asked = refusal.status, response.headers.get("Retry-After")
        logger.warning("the text model's server answered %d: %s", status, refusal.reason(self._key, text))
        if status in BUSY:
            return busy(f"the text model's server is busy (status {status})", asked)
        if status >= 500:
            return failing(f"the text model's server is failing (status {status})", asked)
        named = refusal.parameter(self._parameters.keys() - {"model", "messages"})
        about = f" because of the parameter {named}" if named and status in {400, 422} else ""
        return ModelUnavailable(f"the text model's server refused the call{about} (status {status}){refusal.hint}")


def busy(message: str, retry_after: str | None) -> Overloaded:
    """Build an Overloaded error.

    Args:
        message: the error's message.
        retry_after: value of a `Retry-After` header. If it is None or unreadable, the class's default stays.
    """
    error = Overloaded(message)
    seconds = read_retry_after(retry_after, datetime.now(UTC))
    if seconds is not None:
        error.retry_after_s = seconds
    return error


def failing(message: str, retry_after: str | None) -> ModelUnavailable:
    """Build a ModelUnavailable error that says that a retry may help.

    Args:
        message: the error's message.
        retry_after: value of a `Retry-After` header. None or an unreadable one counts as 0 s.
    """
    error = ModelUnavailable(message)
    error.retry_after_s = read_retry_after(retry_after, datetime.now(UTC)) or 0.0
    return error


def reply_text(response: httpx.Response) -> str:
    """Return the reply in a chat completion.

    Args:
        response: a successful answer of the server.

    Returns:
        The text; a CutReply, possibly empty, if the finish reason says that the reply was cut off.

    Raises:
        InvalidModelReply: the body is not a chat completion, or it has no text.
    """
    try:
        choice = response.json()["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text = message["content"]
        thought = message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise InvalidModelReply("the text model's server answered without a chat completion") from None
    if isinstance(reason, str) and reason.lower() in CUT:
        return CutReply(text if isinstance(text, str) else "")
    if thought and not text:
        raise InvalidModelReply(
            "the text model answered with a thought only, without text; "
            "switch thinking off with models.text_parser.openai.extra_body"
        )
    if not isinstance(text, str):
        raise InvalidModelReply("the text model's server answered without text")
    return text
