"""Defines the embedded segmenter: a small `Sam3Model`, its `Sam3Processor` and its tokenizer, all stock classes."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer, Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

from serve_app.embedded.plurals import plural
from serve_app.embedded.segmenter.phrases import BASES, COLOURS, INVARIABLE, SYNONYMS

CHECKPOINT_DIR = Path(__file__).parents[1] / "checkpoints" / "segmenter"

IMAGE_SIZE, PATCH_SIZE = 224, 14
"""Sides of the model's square input and of a patch in pixels: 16 x 16 patches."""

POSITION_SIZE = 168
"""Side of the picture that the learned positions cover. The model tiles them over its input, as facebook/sam3 does."""

MASK_SIZE = 64
"""Side of the mask grid: four cells for each side of a patch."""

NUM_QUERIES = 12
"""Largest number of objects that the model can find for one phrase."""

MAX_TOKENS = 16
"""Length to which training phrases are padded. The processor pads to 32; padding does not change the result."""

DETECTOR_WIDTH = 96
"""Channels of the detector."""

START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    """Train a CLIP tokenizer on the concepts' words. It splits other words into short pieces and letters."""
    bpe = Tokenizer(models.BPE(unk_token=END_TOKEN, end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    split_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), split_bytes])
    nouns = [*BASES, *(word for words in SYNONYMS.values() for word in words), *COLOURS]
    words = [form for noun in nouns for form in (noun, plural(noun, INVARIABLE))]
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=[START_TOKEN, END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
    )
    # Give each word three times, because the trainer ignores pairs that occur only once.
    bpe.train_from_iterator(words * 3, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in learned["merges"]]
    return CLIPTokenizer(vocab=learned["vocab"], merges=merges)


def build_processor(tokenizer: CLIPTokenizer) -> Sam3Processor:
    """Build the processor. It resizes pictures to the model's square and scales pixels to [-1, 1]."""
    image_processor = Sam3ImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, mask_size={"height": MASK_SIZE, "width": MASK_SIZE}
    )
    return Sam3Processor(image_processor, tokenizer)


def build_config(tokenizer: CLIPTokenizer) -> Sam3Config:
    """Build the configuration: 4.8 M parameters, with a vision transformer of 6 layers and 192 channels."""
    side = IMAGE_SIZE // PATCH_SIZE
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6,
        "num_attention_heads": 3, "image_size": IMAGE_SIZE, "pretrain_image_size": POSITION_SIZE,
        "patch_size": PATCH_SIZE, "window_size": 8, "global_attn_indexes": [2, 5],
    }  # fmt: skip
    text = {
        "model_type": "clip_text_model", "vocab_size": len(tokenizer), "hidden_size": 96, "intermediate_size": 192,
        "projection_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    part = {"hidden_size": DETECTOR_WIDTH, "num_attention_heads": 4, "dropout": 0.0}
    return Sam3Config(
        vision_config={
            "backbone_config": backbone,
            "fpn_hidden_size": DETECTOR_WIDTH,
            "backbone_feature_sizes": [[4 * side, 4 * side], [2 * side, 2 * side], [side, side]],
        },
        text_config=text,
        geometry_encoder_config={**part, "num_layers": 1, "intermediate_size": 192},
        detr_encoder_config={**part, "num_layers": 2, "intermediate_size": 256},
        detr_decoder_config={**part, "num_layers": 3, "intermediate_size": 256, "num_queries": NUM_QUERIES},
        mask_decoder_config={"hidden_size": DETECTOR_WIDTH, "num_attention_heads": 4},
    )


def build_model(warm_start: Path | None) -> tuple[Sam3Model, Sam3Processor]:
    """Build the model in float32, and its processor.

    Args:
        warm_start: checkpoint folder whose weights and tokenizer are used; None means random weights. The checkpoint
            may have another input size, because no weight's shape depends on it.
    """
    tokenizer = build_tokenizer() if warm_start is None else Sam3Processor.from_pretrained(warm_start).tokenizer
    processor, config = build_processor(tokenizer), build_config(tokenizer)
    # At these sizes, the backward pass of SDPA takes twice as long on a CPU as that of eager attention.
    if warm_start is None:
        return Sam3Model._from_config(config, attn_implementation="eager"), processor
    model = Sam3Model.from_pretrained(warm_start, config=config, dtype=torch.float32, attn_implementation="eager")
    return model, processor
