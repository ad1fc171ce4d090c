"""The configuration: one frozen schema for `args:` of a Serve config, for `--config` files and for tests.

Knows neither YAML nor Ray nor any model; `config.files` reads files and says on which line an error is.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from serve_app.config.models import ModelsConfig
from serve_app.config.values import MIB, Fraction, Section, bearer_token


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

    box_format: Literal["xyxy"] = Field("xyxy", description="Boxes are [x1, y1, x2, y2]; nothing else can be set.")
    coordinate_unit: Literal["pixels"] = Field("pixels", description="Nothing else can be set.")
    save_visualizations: bool = Field(False, description="Draw each image with its masks, as `--save-viz` does.")
    visualization_dir: str = Field("outputs/visualizations", description="Folder of the drawn images.")


class DeviceConfig(Section):
    """Which GPU and which attention, for models whose device is `auto` or `cuda`."""

    cuda_device: int = Field(0, ge=0, description="Index among the GPUs that the process sees.")
    use_flash_attention: bool = Field(False, description="FlashAttention 2 for the text parser, where installed.")


class ImageLimits(Section):
    """Limits of one image file, held where it comes in and where it is decoded."""

    max_image_bytes: int = Field(32 * MIB, gt=0, description="Bytes of one image file.")
    max_megapixels: float = Field(50.0, gt=0, le=500, description="Millions of pixels of one image.")
    max_side: int = Field(65_535, ge=1, le=2**24, description="Pixels of a picture's longer side.")


class SegmenterLimits(ImageLimits):
    """The limits that the segmenter holds."""

    max_mask_bytes: int = Field(
        32 * MIB,
        gt=0,
        description="Masks of one image in the answer, written as text; a point of a polygon counts as 64 bytes.",
    )


class IngressLimits(ImageLimits):
    """The limits that the ingress holds."""

    max_body_bytes: int = Field(64 * MIB, gt=0, description="Bytes of a request's body.")
    max_images: int = Field(16, ge=1, le=1024, description="Images of a request.")
    max_entities: int = Field(32, ge=1, le=1024, description="Entities of a request.")
    max_entity_chars: int = Field(256, ge=1, description="Characters of one entity. SAM3 reads 32 tokens.")
    max_prompt_chars: int = Field(4000, ge=1, description="Characters of a prompt.")
    max_identity_objects: int = Field(
        16,
        ge=1,
        le=256,
        description="Objects of one entity and image that a verdict compares; the best ones are taken.",
    )


class LimitsConfig(IngressLimits, SegmenterLimits):
    """Limits of a request, all checked before any work on it."""


class FetchConfig(Section):
    """How image URLs are fetched."""

    enabled: bool = Field(True, description="False refuses every URL.")
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts or `host:port` (a private image store) that may be fetched though their address is private.",
    )
    timeout_s: float = Field(10.0, gt=0, le=300, description="Limit of one fetch, redirects included.")
    max_redirects: int = Field(3, ge=0, le=10, description="Redirects that one fetch follows.")


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


class SegmenterBatching(Section):
    """How much one forward pass of the segmenter takes; further work waits for the next pass."""

    max_pixels: int = Field(8 * 1008 * 1008, gt=0, description="Vision pass: model-input pixels, summed over images.")
    max_pairs: int = Field(32, ge=1, description="Detector pass: (image, phrase) pairs.")


class ParserBatching(Section):
    """How much one forward pass of the parser takes; further work waits for the next pass."""

    max_prompts: int = Field(8, ge=1, description="Parser: prompts in one generate.")


class BatchingConfig(SegmenterBatching, ParserBatching):
    """How much one forward pass takes; further work waits for the next pass."""


class CacheConfig(Section):
    """Bounds of the caches; 0 switches one off."""

    vision_bytes: int = Field(1024 * MIB, ge=0, description="Image features, on the segmenter's device.")
    phrase_bytes: int = Field(64 * MIB, ge=0, description="Phrase embeddings, on the segmenter's device.")
    identity_bytes: int = Field(
        8 * MIB, ge=0, description="Embeddings of objects, in the segmenter's main memory; 3 KiB each with DINOv2-base."
    )
    prompt_bytes: int = Field(16 * MIB, ge=0, description="Parsed prompts, in the parser's memory.")


class IngressServing(Section):
    """Deadlines, retries and admission at the ingress, which may change while it runs."""

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
    def _default_within_maximum(self) -> Self:
        if self.timeout_s > self.max_timeout_s:
            raise ValueError(f"timeout_s ({self.timeout_s:g}) is over max_timeout_s ({self.max_timeout_s:g})")
        return self


class ServingConfig(IngressServing):
    """Deadlines, retries and admission at the ingress; the page; how often replicas may fail to start."""

    page: bool = Field(True, description="Serve the page for people at `/`. False answers it with 404.")
    max_failed_starts: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Failed starts of a deployment's replicas after which Serve gives up. Null: 20, Ray's default; 2 "
        "if `genseg` starts a Ray of its own, where a model that cannot be loaded will not load later either. Ray "
        "itself stops after RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT (3 if not set) times the number of replicas.",
    )


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
