"""Qwen3-VL of the published 4B and 2B sizes with random weights: memory, prefill of 8 prompts, tokens per second.

Runs through the package's EntityParser: instruction cache, left-padded batch, stop check at each token. Random weights
never end a reply, and tokens that the small tokenizer here does not know, or that would end it, are suppressed; so
every reply has exactly as many tokens as are allowed. The tokenizer of the embedded parser stands in for Qwen's.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from serve_app.models import locations
from serve_app.models.array_decoding import closing_tokens
from serve_app.models.qwen3_vl import EntityParser
from tests.benchmarks.rows import Row, limited
from tests.gpu import models
from tests.gpu.timing import Busy, median_s, profiled

TOKENS = 64
PROMPT = (
    "A weathered fisherman in a yellow raincoat stands on a wooden pier beside a red boat, two gulls on a post, crates "
    "of fish, a coil of rope and a lantern, grey waves and a lighthouse far behind, overcast light, 35mm photograph"
)
SIZES: dict[str, dict[str, int]] = {
    "4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    "2B": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
}
"""Of the text model. Source: config.json of Qwen/Qwen3-VL-4B-Instruct and -2B-Instruct."""
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
SAID_LOADING_GIB = {"4B": 8.27, "2B": 4.0}
SAID_GIB = {"4B": 7.49}


def build(device: torch.device, size: dict[str, int], tiny: bool) -> Qwen3VLForConditionalGeneration:
    """Build the model in bfloat16 on the device, its vision tower included, as loading a checkpoint does."""
    text = {
        **size,
        "num_key_value_heads": 2 if tiny else 8,
        "head_dim": 16 if tiny else 128,
        "vocab_size": 12_000 if tiny else 151_936,
        "max_position_embeddings": 262_144,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [4, 2, 2] if tiny else [24, 20, 20],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 2 if tiny else 24,
        "hidden_size": 32 if tiny else 1024,
        "intermediate_size": 64 if tiny else 4096,
        "num_heads": 2 if tiny else 16,
        "out_hidden_size": size["hidden_size"],
        "deepstack_visual_indexes": [1] if tiny else [5, 11, 17],
    }
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3VLForConditionalGeneration._from_config(
            config, dtype=torch.float32 if device.type == "cpu" else torch.bfloat16
        )
    return model.eval()


def never_ends(model: Qwen3VLForConditionalGeneration, tokenizer: Any) -> None:
    """Suppress tokens that the tokenizer does not know, or that end a reply or an array."""
    ends = {*closing_tokens(tokenizer), *tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    known = torch.zeros(model.config.text_config.vocab_size, dtype=torch.bool)
    known[: len(tokenizer)] = True
    known[[*ends]] = False
    unwanted = (~known).to(model.device)

    def suppress(_module: object, _inputs: object, logits: torch.Tensor) -> torch.Tensor:
        return logits.masked_fill(unwanted, float("-inf"))

    model.lm_head.register_forward_hook(suppress)


def run(device: torch.device, tiny: bool) -> list[Row]:
    """Measure each size; prints as it goes."""
    rows: list[Row] = []
    for name, size in SIZES.items():
        rows += _measure(device, name, TINY if tiny else size, tiny)
        models.release(device)
    return rows


def _measure(device: torch.device, name: str, size: dict[str, int], tiny: bool) -> list[Row]:
    processor = AutoProcessor.from_pretrained(locations.resolve("embedded", "parser"))
    started = time.perf_counter()
    model = build(device, size, tiny)
    loading = _gib(device)
    never_ends(model, processor.tokenizer)
    one = EntityParser(model, processor, max_new_tokens=1)
    many = EntityParser(model, processor, max_new_tokens=8 if tiny else TOKENS)
    models.release(device)
    kept = _gib(device)
    print(
        f"  {name}: built in {time.perf_counter() - started:.1f} s, {loading:.2f} GiB while loading "
        f"(said {SAID_LOADING_GIB.get(name)}), {kept:.2f} GiB after (said {SAID_GIB.get(name)}), instruction of "
        f"{len(many._prefix)} tokens in the cache, prompt of {len(many.encode(PROMPT)) - len(many._prefix)}",
        flush=True,
    )
    rows = [
        limited(f"{name}: GiB while loading", loading, unit="GiB"),
        limited(f"{name}: GiB after", kept, unit="GiB"),
    ]
    for batch in (1, 8):
        rows += _speed(
            device, f"{name}, batch {batch}", (one, many), [f"{PROMPT}, {number}" for number in range(batch)]
        )
    return rows


def _speed(
    device: torch.device, name: str, parsers: tuple[EntityParser, EntityParser], prompts: list[str]
) -> list[Row]:
    one, many = parsers
    tokens = many._max_new_tokens
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = _gib(device)
    prefill = median_s(lambda: one.generate_each(prompts), device, warm_up=1, times=5)
    whole = median_s(lambda: many.generate_each(prompts), device, warm_up=1, times=3)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 - before if device.type == "cuda" else 0.0
    step = (whole - prefill) / (tokens - 1)
    busy: Busy = profiled(lambda: many.generate_each(prompts), device, times=1)
    print(
        f"  {name}: prefill {prefill * 1000:.1f} ms, a token {step * 1000:.2f} ms, {len(prompts) / step:.0f} tokens/s, "
        f"{peak:.2f} GiB beyond the weights; device busy {busy.share:.0%}, {busy.kernels / tokens:.0f} kernels a token",
        flush=True,
    )
    more = {"step_s": step, "device_busy_share": busy.share, "kernels_a_token": busy.kernels / tokens, "peak_gib": peak}
    return [
        limited(f"{name}: prefill", prefill, unit="s"),
        limited(f"{name}: tokens/s", len(prompts) / step, unit="", more={**more, "top": busy.top}),
    ]


def _gib(device: torch.device) -> float:
    return torch.cuda.memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
