"""The part of the configuration that names the models, and how each is loaded."""

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
    dtype: Dtype = Field(
        "auto", description="`auto`: bfloat16 on a GPU, or float16 where it has no bfloat16; float32 on a CPU."
    )
    device_map: Device = Field(
        "auto",
        description="`auto`, `cpu`, `cuda` or `cuda:N`. `auto`: the GPU that Ray lends the replica; the CPU if Ray has "
        "no GPU when the graph is built. N counts the GPUs that Ray lends the replica, from 0.",
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
        description="Of the vision encoder. `auto`: bfloat16 on a GPU, or float16 where it has no bfloat16; float32 on "
        "a CPU. A CPU without bfloat16 arithmetic takes float32 in its place.",
    )
    head_dtype: Dtype = Field(
        "auto",
        description="What the detector head multiplies in; scores, presence and boxes are float32 always. `auto`: "
        "float16 on a GPU, float32 elsewhere.",
    )
    device: Device = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`, as for `device_map`.")
    engine: Annotated[str, one_of(SEGMENTERS)] = Field("transformers", description="What runs the model.")
    tf32: bool = Field(
        False, description="Let a GPU multiply and convolve what is left in float32 in TF32: faster, less exact."
    )
    compile: bool = Field(
        False,
        description="Run the model's modules through torch.compile, warmed up at start for every batch within "
        "`batching` of `args`. Needs gcc, g++ and Python's headers.",
    )
    gpu_memory_fraction: float | None = Field(None, gt=0, le=1, description="Hard cap of this process on its GPU.")


class IdentityConfig(Section):
    """The model that tells whether two objects are the same one, for verdicts; it runs in the segmenter's process, on
    its device.
    """

    model_name: str = Field(
        AUTO,
        min_length=1,
        description="Hub name or local folder of a DINOv2 or DINOv3 ViT model, `embedded`, `none` or `auto`. `none`: "
        "individuals are not compared. `auto`: `embedded` if the segmenter is `embedded`, else `none`.",
    )
    threshold: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Two objects are the same one from this cosine on. Null: the model's own, that is "
        "`genseg_threshold` in its config.json, or 0.6 where there is none.",
    )
    dtype: Dtype = Field(
        "auto", description="`auto`: on a GPU float16 for DINOv2 and bfloat16 for DINOv3, on a CPU float32."
    )


class ModelsConfig(Section):
    """All models."""

    text_parser: TextParserModel = TextParserModel()
    segmentation: SegmentationModel = SegmentationModel()
    identity: IdentityConfig = IdentityConfig()

    @property
    def identity_name(self) -> str | None:
        """What `models.identity.model_name` means: a hub name, a folder or `embedded`; None for no model."""
        name = self.identity.model_name
        if name == AUTO:
            name = EMBEDDED if self.segmentation.model_name == EMBEDDED else NONE
        return None if name == NONE else name
