"""The configuration: one frozen schema for `args:` of a Serve config, for `--config` files and for tests.

Knows neither YAML nor Ray nor any model; `config.files` reads files and says on which line an error is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from serve_app.config.engines import PARSERS, SEGMENTERS
from serve_app.config.findings import hint, shown

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
MIB = 1024 * 1024

EMBEDDED = "embedded"
"""The `model_name` of the checkpoints that ship inside the package."""


def known_device(text: str) -> str:
    """Check the name of a device.

    Raises:
        ValueError: the text is not such a name.
    """
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", text):
        raise ValueError(f"{text!r} is not a known device: use auto, cpu, cuda or cuda:N")
    return text


Device = Annotated[str, AfterValidator(known_device)]


def http_address(text: str) -> str:
    """Check an http(s) address.

    Raises:
        ValueError: the text is not such an address.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is not a valid http:// or https:// address")
    return text


HttpAddress = Annotated[str, AfterValidator(http_address)]


def one_of(engines: Mapping[str, str]) -> BeforeValidator:
    """Make a check that a value is the name of an engine."""

    def check(name: object) -> object:
        if not isinstance(name, str) or name not in engines:
            near = hint(name, engines) if isinstance(name, str) else ""
            raise ValueError(f"must be {' or '.join(map(repr, engines))}, got {shown(name)}{near}")
        return name

    return BeforeValidator(check)


class Section(BaseModel):
    """Base of every part: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def with_lists(value: object) -> object:
    """Turn tuples back into lists, at any depth: JSON knows no others, and a configuration is frozen as it is read."""
    if isinstance(value, Mapping):
        return {key: with_lists(item) for key, item in value.items()}
    return [with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def additions_to_a_call(body: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """Check what the configuration adds to the body of a call.

    Raises:
        ValueError: it holds a key that the service itself needs.
    """
    for key in ("messages", "stream", "n"):
        if key in body:
            raise ValueError(f"{key!r} is set by the service itself")
    return body


class OpenAIConfig(Section):
    """An OpenAI-compatible server that reads prompts in place of a local checkpoint (`engine: openai`)."""

    base_url: HttpAddress = Field("http://127.0.0.1:8001/v1", description="The server's /v1 root.")
    api_key_env: str | None = Field(None, description="Name of the environment variable that holds the key.")
    timeout_s: float = Field(30.0, gt=0, le=600, description="Limit of one call, in seconds.")
    max_retries: int = Field(2, ge=0, le=10, description="Further tries after a connection error, 429 or 5xx.")
    extra_body: Annotated[Mapping[str, JsonValue], BeforeValidator(with_lists), AfterValidator(additions_to_a_call)] = (
        Field({}, description="Further keys of a call's body; null takes one away, such as `temperature: null`.")
    )


class TextParserModel(Section):
    """The language model that lists the entities of a prompt."""

    model_name: str = Field("embedded", min_length=1, description="Hub name, local folder, or `embedded`.")
    dtype: Dtype = Field("auto", description="`auto`: bfloat16 on a GPU, float32 on a CPU.")
    device_map: Device = Field(
        "auto", description="`auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes a GPU if one is there."
    )
    engine: Annotated[str, one_of(PARSERS)] = Field("transformers", description="What runs the model.")
    openai: OpenAIConfig = OpenAIConfig()
    max_new_tokens: int = Field(256, ge=8, le=4096, description="Longest reply, in tokens.")
    constrained_decoding: bool = Field(False, description="Allow only a JSON array of strings (needs xgrammar).")
    gpu_memory_fraction: float | None = Field(None, gt=0, le=1, description="Hard cap of this process on its GPU.")


class SegmentationModel(Section):
    """The segmentation model."""

    model_name: str = Field("embedded", min_length=1, description="Hub name, local folder, or `embedded`.")
    dtype: Dtype = Field(
        "auto",
        description="Of the vision encoder; the head stays float32. `auto`: bfloat16 on a GPU, float32 on a CPU. "
        "A CPU without bfloat16 arithmetic takes float32 in its place.",
    )
    device: Device = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    engine: Annotated[str, one_of(SEGMENTERS)] = Field("transformers", description="What runs the model.")
    tf32: bool = Field(False, description="Let a GPU multiply the head's float32 in TF32: faster, less exact.")
    compile: bool = Field(False, description="Run the model's modules through torch.compile, warmed up at start.")
    gpu_memory_fraction: float | None = Field(None, gt=0, le=1, description="Hard cap of this process on its GPU.")


class ModelsConfig(Section):
    """Both models."""

    text_parser: TextParserModel = TextParserModel()
    segmentation: SegmentationModel = SegmentationModel()


class SegmentationConfig(Section):
    """Defaults of a request's thresholds."""

    threshold: Fraction = Field(0.5, description="Objects with a score above it are listed.")
    mask_threshold: Fraction = Field(0.5, description="A pixel with a mask probability above it belongs to the object.")


class EntityFilterConfig(Section):
    """What the entity filter drops besides its built-in terms."""

    excluded_terms: tuple[str, ...] = Field((), description="Further terms that are not entities.")
    builtin_terms: bool = Field(True, description="Drop lighting, mood, style, camera and quality words.")
    only_from_prompt: bool | None = Field(
        None,
        description="Drop an entity with a word that the prompt lacks. Null: only if the text parser is `embedded`, "
        "which copies words and at times garbles them. Other models may translate.",
    )


class OutputConfig(Section):
    """What `genseg run` writes beside the JSON."""

    box_format: Literal["xyxy"] = "xyxy"
    coordinate_unit: Literal["pixels"] = "pixels"
    save_visualizations: bool = False
    visualization_dir: str = "outputs/visualizations"


class DeviceConfig(Section):
    """Which GPU and which attention, for models whose device is `auto` or `cuda`."""

    cuda_device: int = Field(0, ge=0, description="Index among the GPUs that the process sees.")
    use_flash_attention: bool = Field(False, description="FlashAttention 2 for the text parser, where installed.")


class LimitsConfig(Section):
    """Limits of a request, all checked before any work on it."""

    max_body_bytes: int = Field(64 * MIB, gt=0)
    max_image_bytes: int = Field(32 * MIB, gt=0)
    max_megapixels: float = Field(50.0, gt=0, le=500)
    max_side: int = Field(65_535, ge=1, le=2**24, description="Pixels of a picture's longer side.")
    max_images: int = Field(16, ge=1, le=1024)
    max_entities: int = Field(32, ge=1, le=1024)
    max_entity_chars: int = Field(256, ge=1, description="SAM3 reads 32 tokens; a longer text is not a noun phrase.")
    max_prompt_chars: int = Field(4000, ge=1)
    max_mask_bytes: int = Field(
        32 * MIB,
        gt=0,
        description="Masks of one image in the answer, written as text; a point of a polygon counts as 64 bytes.",
    )


class FetchConfig(Section):
    """How image URLs are fetched."""

    enabled: bool = Field(True, description="False refuses every URL.")
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts or `host:port` (a private image store) that may be fetched though their address is private.",
    )
    timeout_s: float = Field(10.0, gt=0, le=300, description="Limit of one fetch, redirects included.")
    max_redirects: int = Field(3, ge=0, le=10)


def bearer_token(text: str) -> str:
    """Check a bearer token.

    Raises:
        ValueError: the token cannot stand in a header. The message does not quote it.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("a token must consist of printable ASCII characters, without spaces, and must not be empty")
    return text


class AuthConfig(Section):
    """Bearer tokens; none means no authentication.

    `tokens` must not stand in the `args:` of a Serve config, because Ray writes them into its logs.
    """

    tokens: tuple[Annotated[str, AfterValidator(bearer_token)], ...] = Field(
        (), description="Any of them is accepted: two during a rotation."
    )
    token_env: str | None = Field(
        None, min_length=1, description="Name of an environment variable with comma-separated tokens."
    )


class BatchingConfig(Section):
    """What one forward may hold; the rest waits for the next."""

    max_pixels: int = Field(8 * 1008 * 1008, gt=0, description="Vision pass: model-input pixels, summed over images.")
    max_pairs: int = Field(32, ge=1, description="Detector pass: (image, phrase) pairs.")
    max_prompts: int = Field(8, ge=1, description="Parser: prompts in one generate.")


class CacheConfig(Section):
    """Bounds of the caches; 0 switches one off."""

    vision_bytes: int = Field(1024 * MIB, ge=0, description="Image features, on the segmenter's device.")
    phrase_bytes: int = Field(64 * MIB, ge=0, description="Phrase embeddings, on the segmenter's device.")
    prompt_bytes: int = Field(16 * MIB, ge=0, description="Parsed prompts, in the parser's memory.")


class ServingConfig(Section):
    """Deadlines, retries and admission at the ingress."""

    timeout_s: float = Field(60.0, gt=0, description="Deadline of a request that names none.")
    max_timeout_s: float = Field(300.0, gt=0, description="Longest deadline a request may ask for.")
    body_pause_s: float = Field(15.0, gt=0, description="Longest pause of a client that sends a body, in seconds.")
    min_body_rate: int = Field(
        4096, ge=1, description="Least average rate of a body, in bytes per second, once body_pause_s has passed."
    )
    max_retries: int = Field(2, ge=0, le=10, description="Further tries when a replica dies under the work.")
    max_concurrent_requests: int = Field(
        64, ge=1, description="Requests in an ingress replica, arriving ones too; more get 429."
    )
    retry_after_s: float = Field(1.0, gt=0, description="`Retry-After` of an overloaded answer.")

    @model_validator(mode="after")
    def _default_within_maximum(self) -> ServingConfig:
        if self.timeout_s > self.max_timeout_s:
            raise ValueError(f"timeout_s ({self.timeout_s:g}) is over max_timeout_s ({self.max_timeout_s:g})")
        return self


class AppConfig(Section):
    """The whole configuration: `args:` of the Serve application, or a `--config` file."""

    models: ModelsConfig = ModelsConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    entity_filter: EntityFilterConfig = EntityFilterConfig()
    output: OutputConfig = OutputConfig()
    device: DeviceConfig = DeviceConfig()
    limits: LimitsConfig = LimitsConfig()
    fetch: FetchConfig = FetchConfig()
    auth: AuthConfig = AuthConfig()
    batching: BatchingConfig = BatchingConfig()
    cache: CacheConfig = CacheConfig()
    serving: ServingConfig = ServingConfig()
