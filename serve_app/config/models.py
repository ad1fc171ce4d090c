"""The sections `models.*` of the configuration: which models are loaded, where and in which types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from serve_app.config.engines import PARSERS, SEGMENTERS
from serve_app.config.values import Device, HttpAddress, Section, one_of, with_lists

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

EMBEDDED = "embedded"
"""The `model_name` of the checkpoints that ship inside the package."""

AUTO, NONE = "auto", "none"
"""Further values of `models.identity.model_name`."""

_MEMORY_CAP = (
    "Largest share of the GPU's memory that the replica's process may allocate. If a batch needs more, it is halved, "
    "as on a full GPU. If the model itself needs more, the replica does not start. Null sets no limit. Set it if two "
    "models share a GPU. It has no effect on a CPU."
)


def additions_to_a_call(body: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """Check the keys that the configuration adds to the body of a call to the text model's server.

    Raises:
        ValueError: a key is among those that the service itself sets.
    """
    for key in ("messages", "stream", "n"):
        if key in body:
            raise ValueError(f"{key!r} is set by the service itself")
    return body


class OpenAIConfig(Section):
    """An OpenAI-compatible server that runs the text parser's model. Only the engine `openai` reads this section."""

    base_url: HttpAddress = Field(
        "http://127.0.0.1:8001/v1", description="Address of the server's API, up to and including `/v1`."
    )
    api_key_env: str | None = Field(
        None,
        description="Name of the environment variable that holds the server's key, on the nodes of the parser's "
        "replicas. If it is null, or the variable is empty, no key is sent.",
    )
    timeout_s: float = Field(
        30.0,
        gt=0,
        le=600,
        description="Longest time of one call, in seconds. After it the request gets 502 `model_unavailable`.",
    )
    max_retries: int = Field(
        2,
        ge=0,
        le=10,
        description="How many times a call is repeated after a connection error or a status of 429 or 5xx. After the "
        "last try the request gets 503 `overloaded` if the server is busy, otherwise 502 `model_unavailable`.",
    )
    extra_body: Annotated[Mapping[str, JsonValue], BeforeValidator(with_lists), AfterValidator(additions_to_a_call)] = (
        Field(
            {},
            description="Keys that are added to the body of each call, such as `chat_template_kwargs: "
            "{enable_thinking: false}`. The value null removes a key that genseg would send, for example "
            "`temperature: null`. `messages`, `stream` and `n` are not allowed.",
        )
    )


class TextParserModel(Section):
    """The language model that lists the entities of a prompt.

    With the engine `openai`, the keys `dtype`, `device_map`, `constrained_decoding` and `gpu_memory_fraction` have no
    effect.
    """

    model_name: str = Field(
        "embedded",
        min_length=1,
        description="Name on the Hugging Face hub, local folder, or `embedded` for the small checkpoint in the "
        "package. With the engine `openai`, the name by which the server knows the model. Use an -Instruct model; the "
        "loader refuses a Thinking model.",
    )
    dtype: Dtype = Field(
        "auto",
        description="Type in which the model computes. `auto` is bfloat16 on a GPU (float16 if the GPU has no "
        "bfloat16) and float32 on a CPU.",
    )
    device_map: Device = Field(
        "auto",
        description="`auto`, `cpu`, `cuda` or `cuda:N`. `auto` is the GPU that Ray assigns to the replica, or the CPU "
        "if Ray assigns none. Without `ray_actor_options` in the file, a replica with `auto` asks for a GPU only if "
        "the cluster has one when the service is deployed. A replica with `cuda` waits until a GPU is free. In "
        "`cuda:N`, N is the index among the GPUs that Ray assigns to the replica, from 0.",
    )
    engine: Annotated[str, one_of(PARSERS)] = Field(
        "transformers",
        description="`transformers` loads the model in the replica. `openai` calls an OpenAI-compatible server; the "
        "section `models.text_parser.openai` says which.",
    )
    openai: OpenAIConfig = OpenAIConfig()
    max_new_tokens: int = Field(
        256,
        ge=8,
        le=4096,
        description="Longest reply of the model, in tokens. If a reply is cut off, the request gets 502 "
        "`invalid_model_reply`. 256 tokens hold about 32 entities. If you raise `limits.max_entities`, raise this too.",
    )
    constrained_decoding: bool = Field(
        False,
        description="Let the model write nothing but a JSON array of strings. The array has at most twice as "
        "many strings as `limits.max_entities` in `args:`; its value in `user_config:` does not count here. It needs "
        "the package xgrammar (`pip install 'genseg[constrained]'`).",
    )
    gpu_memory_fraction: float | None = Field(None, gt=0, le=1, description=_MEMORY_CAP)


class SegmentationModel(Section):
    """The model that finds the entities in an image."""

    model_name: str = Field(
        "embedded",
        min_length=1,
        description="Name on the Hugging Face hub, local folder, or `embedded` for the small checkpoint in the "
        "package.",
    )
    dtype: Dtype = Field(
        "auto",
        description="Type in which the vision encoder computes. `auto` is bfloat16 on a GPU (float16 if the GPU has "
        "no bfloat16) and float32 on a CPU. On a CPU without bfloat16 arithmetic, bfloat16 is replaced by float32.",
    )
    head_dtype: Dtype = Field(
        "auto",
        description="Type in which the attention and MLP layers of the detector head compute. Scores, boxes and "
        "`presence` (the probability that the image shows the entity at all) are always float32. `auto` is float16 on "
        "a GPU and float32 on a CPU.",
    )
    device: Device = Field(
        "auto",
        description="`auto`, `cpu`, `cuda` or `cuda:N`, as for `models.text_parser.device_map`.",
    )
    engine: Annotated[str, one_of(SEGMENTERS)] = Field(
        "transformers", description="`transformers` loads the model in the replica. There is no other engine yet."
    )
    tf32: bool = Field(
        False,
        description="Let a GPU round float32 to TF32 in matrix products and convolutions. The parts that `dtype` and "
        "`head_dtype` leave in float32 are then computed faster and less exactly.",
    )
    compile: bool = Field(
        False,
        description="Compile the model with torch.compile. A replica then takes minutes to start, because it compiles "
        "every batch size up to the values of `batching` in `args:`. The values in `user_config:` may be lower, not "
        "higher. It needs gcc, g++ and Python's headers.",
    )
    gpu_memory_fraction: float | None = Field(None, gt=0, le=1, description=_MEMORY_CAP)


class IdentityConfig(Section):
    """The model that compares two objects for a verdict. It runs in the segmenter's process, on the same device."""

    model_name: str = Field(
        AUTO,
        min_length=1,
        description="Name on the Hugging Face hub or local folder of a DINOv2 or DINOv3 ViT model, `embedded`, `none` "
        "or `auto`. With `none`, no objects are compared, and `references` of a verdict is empty. `auto` is `embedded` "
        "if the segmenter is `embedded`, otherwise `none`.",
    )
    threshold: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Two objects count as the same individual if their cosine similarity is at least this. Null means "
        "the model's own value: `genseg_threshold` in its config.json, or 0.6 if there is none.",
    )
    dtype: Dtype = Field(
        "auto",
        description="Type in which the model computes. `auto` is float16 for DINOv2 and bfloat16 for DINOv3 on a GPU, "
        "and float32 on a CPU.",
    )


class ModelsConfig(Section):
    """The three models: the text parser, the segmenter, and the model that compares objects."""

    text_parser: TextParserModel = TextParserModel()
    segmentation: SegmentationModel = SegmentationModel()
    identity: IdentityConfig = IdentityConfig()

    @property
    def identity_name(self) -> str | None:
        """The identity model's hub name, folder or `embedded`, with `auto` resolved; None for no model."""
        name = self.identity.model_name
        if name == AUTO:
            name = EMBEDDED if self.segmentation.model_name == EMBEDDED else NONE
        return None if name == NONE else name
