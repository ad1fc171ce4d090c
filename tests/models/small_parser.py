"""Makes tiny Qwen3-VL checkpoints of the stock classes, in the published layout: random ones and one that learned."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from serve_app.entities.chat import INSTRUCTION, chat_messages

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
]  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCES = [
    INSTRUCTION,
    'A dog on a red sofa in the garden, soft light ["dog", "red sofa", "garden"]',
    'Two cats\n\nunder an old wooden table by the window, cinematic ["cats", "old wooden table", "window"]',
]

LESSONS = {
    "A dog on a red sofa in the garden, soft light": '["dog", "red sofa", "garden"] That is all I can see, ["dog"].',
    "Two cats": '["cats"] and nothing more.',
    "An old wooden table by the window, with a sofa [red]": '["old wooden table", "sofa [red]", "window"]',
    "Say no list": "There is no list of entities in the prompt.",
}
"""What the taught checkpoint answers, word for word; the first two go on after the array."""


def make_tokenizer() -> Qwen2Tokenizer:
    """Train a byte-level BPE on a few sentences; its vocabulary holds every byte, so it reads any text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    model = json.loads(bpe.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        additional_special_tokens=SPECIAL[1:],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
    )


def make_processor() -> Qwen3VLProcessor:
    """Build the processor with the tokenizer and a chat template in Qwen's format."""
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=make_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=TEMPLATE,
    )


def make_model(
    processor: Qwen3VLProcessor, seed: int, max_positions: int, spread: float
) -> Qwen3VLForConditionalGeneration:
    """Build a model with random weights of the given spread."""
    ids = {name: processor.tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    torch.manual_seed(seed)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": max_positions,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
            "initializer_range": spread,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.update(
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
        pad_token_id=ids["<|endoftext|>"],
        do_sample=True,  # as published checkpoints have it
        temperature=0.7,
        top_p=0.8,
        top_k=20,
    )
    return model


def save_random(folder: Path, seed: int = 0, max_positions: int = 1024) -> Path:
    """Save a checkpoint with weights spread so wide that no two tokens are nearly as likely."""
    processor = make_processor()
    make_model(processor, seed, max_positions, spread=0.5).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_taught(folder: Path, steps: int = 150) -> Path:
    """Save a checkpoint that learned LESSONS by heart."""
    processor = make_processor()
    model = make_model(processor, seed=0, max_positions=1024, spread=0.05)
    tokens, labels, mask = _lessons(processor)
    optimiser = torch.optim.AdamW(model.model.language_model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    for _ in range(steps):
        loss = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _lessons(processor: Qwen3VLProcessor) -> tuple[Tensor, Tensor, Tensor]:
    """Return token ids, labels (-100 where nothing is learned) and mask, all (lessons, width)."""
    rows = []
    for prompt, reply in LESSONS.items():
        chat = processor.apply_chat_template([chat_messages(prompt)], add_generation_prompt=True, tokenize=True)[0]
        rows.append((list(chat), processor.tokenizer.encode(f"{reply}<|im_end|>")))
    width = max(len(chat) + len(answer) for chat, answer in rows)
    tokens, labels, mask = (torch.full((len(rows), width), fill) for fill in (0, -100, 0))
    for row, (chat, answer) in enumerate(rows):
        end = len(chat) + len(answer)
        tokens[row, :end] = torch.tensor(chat + answer)
        labels[row, len(chat) : end] = torch.tensor(answer)
        mask[row, :end] = 1
    return tokens, labels, mask
