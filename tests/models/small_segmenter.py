"""A very small Sam3Model with random weights and its processor, of the stock classes, saved as any checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer, Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

SIDE, WIDTH, PATCH = 56, 32, 14


def tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer of single letters and a few words."""
    made = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
    )
    made.train_from_iterator(["dog cat sofa car red blue"] * 3, trainer)
    model = json.loads(made.to_str())["model"]
    merges = [tuple(merge) if not isinstance(merge, str) else tuple(merge.split(" ")) for merge in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges)


def config(tokens: CLIPTokenizer, side: int = SIDE) -> Sam3Config:
    """A configuration of the real shape, small everywhere; `side` is that of its input in pixels."""
    grid = side // PATCH
    return Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 48,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": side,
                "pretrain_image_size": side,
                "patch_size": PATCH,
                "window_size": 2,
                "global_attn_indexes": [1],
            },
            "fpn_hidden_size": WIDTH,
            "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 64,
            "projection_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "eos_token_id": tokens.eos_token_id,
            "bos_token_id": tokens.bos_token_id,
            "pad_token_id": tokens.pad_token_id,
        },
        geometry_encoder_config={
            "hidden_size": WIDTH, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        },
        detr_encoder_config={"hidden_size": WIDTH, "num_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        detr_decoder_config={
            "hidden_size": WIDTH, "num_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "num_queries": 7,
        },
        mask_decoder_config={"hidden_size": WIDTH, "num_attention_heads": 2},
    )  # fmt: skip


def make(folder: Path, seed: int = 0, side: int = SIDE) -> Path:
    """Save model and processor in a folder."""
    torch.manual_seed(seed)
    tokens = tokenizer()
    Sam3Model(config(tokens, side)).eval().save_pretrained(folder)
    size = {"height": side, "width": side}
    Sam3Processor(Sam3ImageProcessor(size=size), tokens).save_pretrained(folder)
    return folder
