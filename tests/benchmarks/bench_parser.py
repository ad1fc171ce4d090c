"""The parser: a plain greedy `generate` per prompt against ours, in one run, with the same replies.

    python tests/benchmarks/bench_parser.py

prints a table and, last, one line of JSON. The plain side is the libraries' documented use: one chat, one generate.
Ours shares the instruction's cache, stops at the array's end and decodes in batches. Two models: the embedded one, and
a random one whose tokenizer spends as many tokens on the instruction as real ones do (the embedded one spends 13).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from serve_app.entities.chat import chat_messages
from serve_app.models import locations
from serve_app.models.qwen3_vl import EntityParser

BATCH = 8
REPEATS = 2
EMBEDDED_TOKENS, RANDOM_TOKENS = 128, 16
PROMPTS = (
    "A dog sitting on a red sofa in a garden, golden hour",
    "Two cats and a blue umbrella next to a wooden bench, soft light, highly detailed",
    "an astronaut riding a horse on mars, cinematic mood",
    "A bowl of apples",
    "Photo of a small white house, a tall tree and a rusty car near a lake, wide angle",
    "An old wooden table with a glass vase, a book and three candles, dramatic lighting",
    "a golden crown on a pillow",
    "A fox, an owl and a rabbit in a forest at night, watercolor style, moody atmosphere, 8k",
)


def best_of(works: Sequence[Callable[[], list[str]]], repeats: int) -> list[tuple[float, list[str]]]:
    """Run each work several times, in turns, so that a busy machine slows all alike: shortest seconds, and result."""
    times: list[list[float]] = [[] for _ in works]
    results: list[list[str]] = [[] for _ in works]
    for _ in range(repeats):
        for index, work in enumerate(works):
            start = time.perf_counter()
            results[index] = work()
            times[index].append(time.perf_counter() - start)
    return [(min(seconds), result) for seconds, result in zip(times, results, strict=True)]


@torch.inference_mode()
def plain_reply(model: Qwen3VLForConditionalGeneration, processor: Any, prompt: str, max_new_tokens: int) -> str:
    """Answer one prompt the documented way."""
    inputs = processor.apply_chat_template(
        chat_messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    output = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
    reply: str = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return reply


def random_model() -> tuple[Qwen3VLForConditionalGeneration, Any]:
    """Build a model of 8 layers, 512 wide, on a byte-level tokenizer to which the instruction is 200 tokens."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.models.small_parser import make_model, make_processor

    processor = make_processor()
    config = make_model(processor, seed=0, max_positions=1024, spread=0.05).config
    config.text_config.update({"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "head_dim": 64})
    config.text_config.update({"num_attention_heads": 8, "num_key_value_heads": 2})
    config.text_config.rope_parameters = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [16, 8, 8]}
    config.vision_config.out_hidden_size = 512
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config).eval()
    model.generation_config.update(eos_token_id=2, pad_token_id=0)
    return model, processor


def compare(
    name: str, model: Qwen3VLForConditionalGeneration, processor: Any, tokens: int, quick: bool
) -> list[dict[str, Any]]:
    """Time both sides on the same model and prompts, ours one prompt at a time and in a batch."""
    prompts = PROMPTS[:2] if quick else PROMPTS
    parser = EntityParser(model, processor, max_new_tokens=tokens)
    plain_reply(model, processor, PROMPTS[0], 4)  # warm-up
    parser.generate_each(PROMPTS[:1])

    def plain() -> list[str]:
        return [plain_reply(model, processor, prompt, tokens) for prompt in prompts]

    def in_batches(size: int) -> list[str]:
        groups = [prompts[start : start + size] for start in range(0, len(prompts), size)]
        replies = [reply for group in groups for reply in parser.generate_each(group)]
        kept = [reply for reply in replies if isinstance(reply, str)]
        assert len(kept) == len(prompts), replies
        return kept

    (reference_s, expected), *ours = best_of(
        [plain, lambda: in_batches(1), lambda: in_batches(BATCH)], 1 if quick else REPEATS
    )
    rows = []
    for what, (ours_s, replies) in zip(("one by one", f"in batches of {BATCH}"), ours, strict=True):
        for reference, reply in zip(expected, replies, strict=True):
            if not reply or not reference.startswith(reply):
                raise SystemExit(f"{name}, {what}: {reply!r} is not how the plain reply begins: {reference!r}")
        rows.append(
            {
                "what": f"parser, {name}, {len(prompts)} prompts {what}",
                "reference_s": reference_s,
                "ours_s": ours_s,
                "ratio": reference_s / ours_s,
            }
        )
    return rows


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure everything, in float32 on the CPU.

    Args:
        quick: two prompts, once.

    Returns:
        Rows of what, reference_s, ours_s and ratio.
    """
    path = locations.resolve("embedded", "parser")
    model = Qwen3VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
    return [
        *compare("embedded model", model, AutoProcessor.from_pretrained(path), EMBEDDED_TOKENS, quick),
        *compare("200-token instruction", *random_model(), RANDOM_TOKENS, quick),
    ]


def main() -> None:
    """Print the table, then the JSON."""
    rows = run()
    print(f"{'what':<66}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}")
    for row in rows:
        print(f"{row['what']:<66}{1000 * row['reference_s']:>10.0f}{1000 * row['ours_s']:>10.0f}{row['ratio']:>7.1f}x")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
