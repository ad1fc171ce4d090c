"""Builds the embedded parser before training (tokenizer, processor and model), and saves it.

All are stock transformers classes, which stock `from_pretrained` loads. The module contains no training data; the texts
that train the tokenizer are an argument.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from serve_app.entities.chat import chat_messages

INSTRUCTION = (
    "List every distinct physical thing in the image prompt that could be outlined in a picture: "
    "people, animals, objects, plants, buildings, vehicles, places and parts of the scene. "
    'Keep the attributes that tell it apart, such as colour, material, size or kind: "red sofa", not "sofa". '
    "Leave out articles and counts. "
    "Leave out lighting, mood, style, quality, camera and photography words and abstract ideas. "
    "Answer with a JSON array of strings, in the order of the prompt, and nothing else."
)
"""The system message that this parser is trained with. Its chat template always writes this system message."""

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen's special tokens, ids 0 to 6 in this order. Source: the tokenizer of Qwen/Qwen3-VL-8B-Instruct."""

CHAT_TEMPLATE = (
    "{%- set instruction = " + json.dumps(INSTRUCTION) + " %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'system' %}{{- instruction }}"
    "{%- elif message.content is string %}{{- message.content }}"
    "{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part.type == 'video' %}{{- '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in part %}"
    "{{- part.text }}"
    "{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Qwen's chat format for messages with text, image and video parts, with this parser's own instruction.

Source: the chat template of Qwen3-VL.
"""

NORMALIZED = (
    ("[\u2018\u2019]", "'"),
    ("[\u201c\u201d\u00ab\u00bb]", '"'),
    # A line end becomes a space, except for the line ends of the chat format.
    (r"(?<=.)(?<!system)(?<!user)(?<!assistant)[ \t]*[\r\n]+", " "),
    (r"[!?\u2026]+|\.{2,}", "."),
    (r"</?\w+>|<[^<>|\s]+:[^<>|]*>", " "),
    (r"[#*_=$\x{20ac}\x{a3}%~^<>{}\\@`]|\p{So}|\p{Sk}|\p{Cf}|[\x{fe00}-\x{fe0f}]", " "),
    ("[ ]?&[ ]?", " and "),
    ("\u2013", "-"),
    ("[ ]?[\u2014+\u2022\u00b7\u2192]+[ ]?", ", "),
    (r"(?<=\p{L})[ ]?/[ ]*(?=\p{L})", ", "),
    (r"[ ]?\|[ ]?", " | "),
    (r"[ ]?\((?=[\p{L} '-]+\))", ", "),
    (r"(?<=\p{L})\)(?!\))[ ]?", ", "),
    (r"[ \t\x{a0}]+", " "),
    (r"[ ]?,(?:[ ]?,)+", ","),
    (r" (?=[,.])|,(?=\.)|,?[ ]?$", ""),
)
"""Patterns and their replacements, in order. They replace characters that the grammar does not use, because the model
was not trained on these characters and would treat them as letters. Answers do not contain such characters."""

_FUNCTION_WORDS = (
    "a|an|the|of|in|on|with|and|at|by|to|is|are|was|were|from|his|her|its|their|that|which|who|over|under|near|behind|"
    "beside|into|through|while|as|for"
)
# A word's token never starts with a space: spaces belong to the function words and punctuation around it. So an entity
# has the same tokens in the prompt and in the answer, and the model copies them one by one.
_WORD_PATTERN = (
    r"'s\b ?"
    rf"| ?(?:[^\p{{L}}\p{{M}}\p{{N}}\s]+ ?|(?:{_FUNCTION_WORDS}) )+"
    r"|[\p{L}\p{M}]+"
    r"|\p{N}"
    r"|\s+"
)


def answer_text(entities: Iterable[str]) -> str:
    """Return the right answer for a list of entities: a JSON array of strings, with letters that are not escaped.

    >>> answer_text(["dog", "red sofa"])
    '["dog", "red sofa"]'
    """
    return json.dumps(list(entities), ensure_ascii=False)


def instruction_sentences() -> list[str]:
    """Split the instruction into its sentences. Joined, they are the instruction again."""
    return re.findall(r"[^.]+\.\s*", INSTRUCTION)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer. Its normalizer converts to lower case and applies `NORMALIZED`.

    Args:
        texts: prompts and answers.
        vocabulary_size: number of tokens, with the special tokens and without the instruction's sentences.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # The instruction never changes, so each of its sentences is one token. A chat then starts with about ten tokens
    # instead of 120.
    tokenizer.add_tokens([AddedToken(part, normalized=False) for part in instruction_sentences()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[token for token in SPECIAL_TOKENS[1:] if token != "<|im_end|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def _normalizer() -> normalizers.Normalizer:
    replacements = (normalizers.Replace(Regex(pattern), content) for pattern, content in NORMALIZED)
    return normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), *replacements])


def renew_processor(processor: Qwen3VLProcessor) -> Qwen3VLProcessor:
    """Give the processor of an older checkpoint the current chat template and normalizer. Its vocabulary stays."""
    processor.chat_template = CHAT_TEMPLATE
    processor.tokenizer.backend_tokenizer.normalizer = _normalizer()
    return processor


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    """Build the processor from a tokenizer, stock image and video processors, and the chat template."""
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(
    vocabulary_size: int, hidden_size: int = 192, layers: int = 6, key_heads: int = 6
) -> Qwen3VLForConditionalGeneration:
    """Build an untrained model with a small text part and the smallest vision part that stock loading accepts.

    Args:
        vocabulary_size: rows of the embedding, which is tied to the output.
        hidden_size: width of the text part, a multiple of 32. Heads are 32 wide.
        layers: layers of the text part.
        key_heads: key and value heads of a layer, a divisor of its query heads.
    """
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": vocabulary_size,
            "hidden_size": hidden_size,
            "intermediate_size": hidden_size * 8 // 3,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden_size // 32,
            "num_key_value_heads": key_heads,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [8, 4, 4],
                "mrope_interleaved": True,
            },
            "pad_token_id": SPECIAL_TOKENS.index("<|endoftext|>"),
            "eos_token_id": SPECIAL_TOKENS.index("<|im_end|>"),
            "bos_token_id": None,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 1,
            "out_hidden_size": hidden_size,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        },
        image_token_id=SPECIAL_TOKENS.index("<|image_pad|>"),
        video_token_id=SPECIAL_TOKENS.index("<|video_pad|>"),
        vision_start_token_id=SPECIAL_TOKENS.index("<|vision_start|>"),
        vision_end_token_id=SPECIAL_TOKENS.index("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=256,
        eos_token_id=SPECIAL_TOKENS.index("<|im_end|>"),
        pad_token_id=SPECIAL_TOKENS.index("<|endoftext|>"),
    )
    return model


def prompt_text(processor: Qwen3VLProcessor, prompt: str) -> str:
    """Return the text of one prompt's chat, up to the start of the answer."""
    return str(processor.apply_chat_template(chat_messages(prompt), add_generation_prompt=True, tokenize=False))


def save_checkpoint(model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, folder: Path) -> None:
    """Write the model, in half precision, and its processor. The folder never contains a part of a checkpoint.

    Args:
        model: the model; not changed.
        processor: saved beside the weights.
        folder: replaced as a whole if it exists; files that the checkpoint does not contain, such as a card, are kept.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    weights = {name: tensor.detach().to(torch.float16) for name, tensor in model.state_dict().items()}
    weights.pop("lm_head.weight", None)
    config_dtype = model.config.dtype
    model.config.dtype = torch.float16
    model.save_pretrained(temporary, state_dict=weights)
    model.config.dtype = config_dtype
    processor.save_pretrained(temporary)
    if folder.exists():
        for kept in folder.iterdir():
            if not (temporary / kept.name).exists():
                shutil.copy2(kept, temporary / kept.name)
        old = folder.with_name(f".{folder.name}.old.{os.getpid()}")
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(folder)
