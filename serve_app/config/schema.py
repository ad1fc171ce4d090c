"""The schema of the configuration, for `args:` of a Serve config, for `--config` files and for tests.

Knows neither YAML nor Ray nor any model. `config.files` reads the files.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from serve_app.config.limits import IngressLimits as IngressLimits
from serve_app.config.limits import LimitsConfig as LimitsConfig
from serve_app.config.limits import SegmenterLimits as SegmenterLimits
from serve_app.config.models import ModelsConfig
from serve_app.config.values import MIB, Fraction, Section, bearer_token


class SegmentationConfig(Section):
    """Thresholds for requests that do not set their own."""

    threshold: Fraction = Field(
        0.5,
        description="Objects with a score above this value are listed. A lower value finds more objects, and more "
        "wrong ones.",
    )
    mask_threshold: Fraction = Field(
        0.5,
        description="A pixel whose mask probability is above this value belongs to the object. A lower value gives "
        "larger masks.",
    )


class EntityFilterConfig(Section):
    """Which phrases of the text parser are dropped, so that nothing is searched for them.

    `meta.dropped` of the answer lists them with the reason.
    """

    excluded_terms: tuple[str, ...] = Field(
        (),
        description="Terms to drop in addition to the built-in ones, such as `shadows`. Case does not matter, and "
        "singular and plural count as the same term.",
    )
    builtin_terms: bool = Field(
        True,
        description="Drop words for lighting, mood, style, camera, quality and scene. Set it to false if such a word "
        "names a thing in your prompts.",
    )
    only_from_prompt: bool | None = Field(
        None,
        description="Drop a phrase that contains a word which is not in the prompt. Null means true for the "
        "`embedded` text parser, which sometimes garbles words, and false for other models, which may translate.",
    )


class OutputConfig(Section):
    """The form of the boxes, which is fixed, and the pictures that `genseg run` draws.

    `genseg serve` and `genseg batch` ignore this section.
    """

    box_format: Literal["xyxy"] = Field("xyxy", description="Boxes are `[x1, y1, x2, y2]`. No other value is allowed.")
    coordinate_unit: Literal["pixels"] = Field(
        "pixels", description="Unit of the boxes' coordinates. No other value is allowed."
    )
    save_visualizations: bool = Field(
        False, description="Draw each image with its masks into `visualization_dir`, as `--save-viz` does."
    )
    visualization_dir: str = Field(
        "outputs/visualizations", description="Folder of the drawn images. `--viz-dir` overrides it."
    )


class DeviceConfig(Section):
    """Which GPU the models use, and which implementation of attention the text parser uses."""

    cuda_device: int = Field(
        0,
        ge=0,
        description="Index of the GPU that the devices `auto` and `cuda` mean, counted from 0 among the GPUs that Ray "
        "assigns to the replica. It must be less than `num_gpus` of the deployment; 0 is always allowed.",
    )
    use_flash_attention: bool = Field(
        False,
        description="Use FlashAttention 2 in the text parser. It needs the package flash-attn and half precision on a "
        "GPU; otherwise the replica logs a warning and uses PyTorch's attention.",
    )


class FetchConfig(Section):
    """How the ingress fetches the image URLs of a request. If a fetch fails, the request gets 422 `fetch_failed`."""

    enabled: bool = Field(
        True,
        description="Fetch image URLs. False refuses every URL; set it if all callers send the images themselves.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Hosts with a private address from which images may be fetched, such as an image store in the "
        "cluster, as `host` or `host:port`. All other private addresses are refused.",
    )
    timeout_s: float = Field(
        10.0, gt=0, le=300, description="Longest time for one image, in seconds, redirects included."
    )
    max_redirects: int = Field(3, ge=0, le=10, description="Largest number of redirects that one fetch follows.")


class AuthConfig(Section):
    """Bearer tokens that callers must send. Without this section the service asks for no token.

    A request without a token, or with a wrong one, gets 401 `unauthorized`. An `auth` section without a token is an
    error.
    """

    tokens: tuple[Annotated[str, AfterValidator(bearer_token)], ...] = Field(
        (),
        description="Accepted tokens, each of printable ASCII characters without spaces. List the old and the new "
        "token while callers change from one to the other. This key is not allowed in `args:` of a Serve config, "
        "because Ray writes `args:` into its logs.",
    )
    token_env: str | None = Field(
        None,
        min_length=1,
        description="Name of an environment variable that holds one token, or several separated by commas. If the "
        "variable is empty on the ingress's node, the ingress does not start.",
    )


class SegmenterBatching(Section):
    """How much work the segmenter does at once. Further work waits for the next batch."""

    max_pixels: int = Field(
        8 * 1008 * 1008,
        gt=0,
        description="Segmenter: pixels of the model's input in one pass of the vision encoder, summed over its "
        "images. SAM3 takes 1008 x 1008 = 1016064 for each image, so the default is 8 images. A pass takes at least "
        "one image. Lower it if the GPU's memory is short.",
    )
    max_pairs: int = Field(
        32,
        ge=1,
        description="Segmenter: (image, phrase) pairs in one pass of the detector. Lower it if the GPU's memory is "
        "short.",
    )


class ParserBatching(Section):
    """How much work the parser does at once. Further work waits for the next batch."""

    max_prompts: int = Field(
        8,
        ge=1,
        description="Parser: prompts in one call of `generate`. Lower it if the GPU's memory is short. The engine "
        "`openai` does not use it.",
    )


class BatchingConfig(SegmenterBatching, ParserBatching):
    """How much work a model does at once.

    Further work waits for the next batch. If a batch does not fit into the device's memory, the replica runs its halves
    one after the other. The GPU configurations beside this page say how much memory a batch takes.
    """


class CacheConfig(Section):
    """The sizes of the caches. Each replica has its own caches.

    When a cache is full, it drops the entries that were not used for the longest time. 0 switches a cache off.
    """

    vision_bytes: int = Field(
        1024 * MIB,
        ge=0,
        description="Segmenter: features of images, in bytes of the device's memory. SAM3 with the vision encoder in "
        "bfloat16 takes 58 MB (56 MiB) for each image. Raise it if callers send the same images again and memory is "
        "free.",
    )
    phrase_bytes: int = Field(
        64 * MIB, ge=0, description="Segmenter: embeddings of phrases, in bytes of the device's memory."
    )
    identity_bytes: int = Field(
        8 * MIB,
        ge=0,
        description="Segmenter: embeddings of objects for verdicts, in bytes of main memory. DINOv2-base takes 3 KiB "
        "for each object.",
    )
    prompt_bytes: int = Field(
        16 * MIB,
        ge=0,
        description="Parser: prompts with their entities, in bytes of main memory. Raise it if callers send the same "
        "prompts again; each hit saves a call of the model.",
    )


class IngressServing(Section):
    """Deadlines, retries and the number of requests at the ingress; they may change while it runs."""

    timeout_s: float = Field(
        60.0,
        gt=0,
        description="Deadline of a request that has no `timeout_s` of its own, in seconds. It must not be over "
        "`max_timeout_s`. After it the request gets 504 `timeout`.",
    )
    max_timeout_s: float = Field(
        300.0,
        gt=0,
        description="Longest deadline of a request, in seconds. A request that asks for more gets this deadline. A "
        "request whose body takes longer than this to arrive gets 504.",
    )
    body_pause_s: float = Field(
        15.0,
        gt=0,
        description="Longest pause of a client that sends a body, in seconds. After it the request gets 504.",
    )
    min_body_rate: int = Field(
        4096,
        ge=1,
        description="Lowest average rate of a body, in bytes per second. The first `body_pause_s` seconds do not "
        "count. A slower request gets 504. Lower it for callers on very slow networks.",
    )
    max_retries: int = Field(
        2,
        ge=0,
        le=10,
        description="How many times a call is repeated if the replica that works on it dies. After the last try the "
        "request fails with 500. In a request with several images, each failed image has an `error` instead.",
    )
    max_concurrent_requests: int = Field(
        64,
        ge=1,
        description="Largest number of requests in one ingress replica at the same time. A request whose body is "
        "still arriving counts too. Further ones get 429 with `Retry-After`. If the file sets `max_ongoing_requests` "
        "of the Ingress, make it four times this value plus 64.",
    )
    retry_after_s: float = Field(
        1.0,
        gt=0,
        description="Value of the header `Retry-After` in 429 and 503 answers, in seconds. It is rounded to a whole "
        "number, at least 1.",
    )

    @model_validator(mode="after")
    def _default_within_maximum(self) -> Self:
        if self.timeout_s > self.max_timeout_s:
            raise ValueError(f"timeout_s ({self.timeout_s:g}) is over max_timeout_s ({self.max_timeout_s:g})")
        return self


class ServingConfig(IngressServing):
    """The ingress: deadlines, retries, and how many requests it accepts at once.

    Also the web page, and how many times replicas may fail to start.
    """

    page: bool = Field(True, description="Serve the web page at `/`. False answers it with 404.")
    max_failed_starts: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="How many times the replicas of a deployment may fail to start before Ray Serve stops trying and "
        "the deployment fails. Null means 2 if `genseg` starts Ray itself, otherwise 20, Ray's default. If `genseg` "
        "did not start Ray, Ray also stops after 3 failures x the number of replicas; the environment variable "
        "`RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT` changes the 3.",
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
