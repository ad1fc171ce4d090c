"""Defines EntityParser, which runs the text part of Qwen3-VL and returns its raw replies to prompts.

It decodes greedily, in padded batches. The instruction is the same in every chat, so it is read from a key-value cache.
Decoding of a reply stops at the end of its JSON array. In float32, each reply is the same as if its chat were decoded
alone. In half precision, rounding depends on the batch size, and can change the choice between two tokens with nearly
equal logits.

It does not depend on Ray or the wire format, and does not cache replies; the package `entities` reads them. It is not
thread-safe: the model keeps state while it generates, so only one thread at a time may call it.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import (
    AutoProcessor,
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    StoppingCriteriaList,
)
from transformers.utils import is_flash_attn_2_available

from serve_app.config.models import TextParserModel
from serve_app.config.schema import AppConfig, DeviceConfig, LimitsConfig
from serve_app.entities.chat import CutReply, chat_messages, prompt_text
from serve_app.errors import DeviceOutOfMemory, TooLarge
from serve_app.models import checkpoints, devices, locations
from serve_app.models.array_decoding import ArrayEnd, ArrayGrammar, JsonSchema, ReplyText, array_schema, closing_tokens
from serve_app.models.chat_template import check_text
from serve_app.models.checkpoint_files import check_before_loading
from serve_app.models.interface import LocalParser
from serve_app.models.memory import halve_when_full

logger = logging.getLogger(__name__)

PROBES = ("a", "B", "1", " c", "\n", "(", "é", "狗")
"""Short prompts with different first characters. The leading tokens that all of their chats share are in every chat."""

Decode = Callable[[Sequence[list[int]]], list[str]]


def load(config: AppConfig) -> LocalParser:
    """Load the configured checkpoint, see `EntityParser.load`. `config.engines` names this function."""
    return EntityParser.load(config.models.text_parser, config.device, config.limits)


class EntityParser:
    """A loaded Qwen3-VL without its vision tower.

    Args:
        model: in eval mode, on its device. It is changed: the vision tower is removed, and decoding becomes greedy.
        processor: the checkpoint's own, with its chat template.
        max_new_tokens: longest reply in tokens.
        constrained: JSON schema of the allowed replies (needs xgrammar); None allows any reply.
        decode: replaces the model's decoding in tests. It takes chats as token ids, and returns one reply per chat.

    Raises:
        ConfigError: `constrained` is given and xgrammar is not installed.
    """

    def __init__(
        self,
        model: Qwen3VLForConditionalGeneration,
        processor: Qwen3VLProcessor,
        *,
        max_new_tokens: int = 256,
        constrained: JsonSchema | None = None,
        decode: Decode | None = None,
    ) -> None:
        model.model.visual = None  # it is not used, and takes 1.15 GB in the 8B model
        self._model = model
        self._processor = processor
        self._tokenizer: PreTrainedTokenizerBase = processor.tokenizer
        self._max_new_tokens = max_new_tokens
        self._positions = int(model.config.text_config.max_position_embeddings)
        self._greedy = model.generation_config = greedy_config(model.generation_config, self._tokenizer, max_new_tokens)
        self._closing = closing_tokens(self._tokenizer)
        self._special = re.compile("|".join(map(re.escape, self._tokenizer.get_added_vocab())) or r"(?!)")
        self._grammar = self._build_grammar(constrained) if constrained else None
        self._text = ReplyText(self._tokenizer)
        self._decode = decode or self._decode_on_device
        self._prefix = self._common_tokens()
        self._prefix_cache: DynamicCache | None = None if decode else self._encode_prefix()

    @classmethod
    def load(cls, config: TextParserModel, device: DeviceConfig, limits: LimitsConfig | None = None) -> EntityParser:
        """Load the configured checkpoint onto its device.

        Args:
            config: the checkpoint, its dtype and device, and the longest reply.
            device: the GPU that `auto` and `cuda` mean, and whether FlashAttention 2 is wanted.
            limits: the bounds for constrained decoding, see `array_schema`; None means the default limits.

        Raises:
            CheckpointError: the checkpoint is missing, gated, incomplete, damaged or of another model, or the device
                does not exist.
            ConfigError: constrained decoding is configured and xgrammar is not installed.
        """
        path = locations.resolve(config.model_name, "parser")
        target = devices.resolve_device(config.device_map, device.cuda_device)
        with checkpoints.explain(config.model_name):  # on a full GPU, even setting the cap fails
            wall = devices.cap_memory(target, config.gpu_memory_fraction)
        with checkpoints.explain(config.model_name, wall):
            dtype = devices.resolve_dtype(config.dtype, target)
            check_before_loading(config.model_name, path, "text parser", ("qwen3_vl",))
            processor = AutoProcessor.from_pretrained(path)
            check_text(config.model_name, processor)
            model, report = Qwen3VLForConditionalGeneration.from_pretrained(
                path,
                dtype=dtype,
                device_map={"": str(target)},
                attn_implementation=choose_attention(device.use_flash_attention, target, dtype),
                output_loading_info=True,
            )
            checkpoints.check_complete(config.model_name, report["missing_keys"], report["mismatched_keys"])
            return cls(
                model.eval(),
                processor,
                max_new_tokens=config.max_new_tokens,
                constrained=array_schema(limits or LimitsConfig()) if config.constrained_decoding else None,
            )

    def generate_each(self, prompts: Sequence[str]) -> list[str | TooLarge | DeviceOutOfMemory]:
        """Generate the model's reply to each prompt, in one batch.

        Args:
            prompts: image-generation prompts; may be empty.

        Returns:
            One entry per prompt, in order: the raw reply without special tokens; a CutReply if the reply reached the
            length limit; TooLarge if the prompt has more tokens than the model reads; DeviceOutOfMemory if the prompt
            does not fit into the device's memory even alone.
        """
        chats = [self._tokens_or_error(prompt) for prompt in prompts]
        rows = [chat for chat in chats if isinstance(chat, list)]
        outcomes = halve_when_full(self._decode, rows, "prompt")
        replies = iter(outcomes)
        return [next(replies) if isinstance(chat, list) else chat for chat in chats]

    def encode(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt's whole chat, up to the start of the reply.

        Text that spells one of the tokenizer's special tokens becomes a blank, so that a prompt cannot start or end a
        turn of the chat.
        """
        encoded = self._processor.apply_chat_template(
            [chat_messages(prompt_text(prompt, self._special))],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
        )
        tokens: list[int] = list(encoded["input_ids"][0])
        return tokens

    def _tokens_or_error(self, prompt: str) -> list[int] | TooLarge:
        tokens = self.encode(prompt)
        longest = self._positions - self._max_new_tokens
        if len(tokens) > longest:
            return TooLarge(
                f"prompt: {len(tokens)} tokens with the instruction, but the text model reads at most {longest}",
                "prompt",
            )
        return tokens

    @torch.inference_mode()
    def _decode_on_device(self, chats: Sequence[list[int]]) -> list[str]:
        """Decode one batch of chats; raise torch.OutOfMemoryError if it does not fit into the device's memory."""
        # 1. Count the leading tokens that all chats share with the cache of the instruction. They may be fewer than
        #    the cache holds, because the tokenizer may merge the start of a prompt with the instruction's last token.
        shared = min(shared_length(self._prefix, chat) for chat in chats)
        # 2. Insert the padding between the shared tokens and the rest of each chat.
        input_ids, mask = pad_between(chats, shared, int(self._greedy.pad_token_id))
        width = input_ids.shape[1]
        # 3. Decode greedily. The model keeps the position offsets of its last call, so reset them.
        self._model.model.rope_deltas = None
        stop = None if self._grammar else ArrayEnd(self._tokenizer, self._closing, width)
        output = self._model.generate(
            input_ids=input_ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            past_key_values=self._cache_for(len(chats), shared),
            generation_config=self._greedy,
            stopping_criteria=StoppingCriteriaList([stop] if stop else []),
            # After the array, the grammar allows only a stop token, so no stopping criterion is needed.
            logits_processor=LogitsProcessorList([self._grammar.processor()] if self._grammar else []),
        )
        replies = [self._text(row) for row in output[:, width:]]
        if output.shape[1] - width < self._max_new_tokens:
            return replies
        # If a row ended, its last column contains a stop token or padding.
        ends = {self._greedy.pad_token_id, *self._stop_tokens()}
        ended = [
            token in ends or bool(stop and stop.has_ended(row)) for row, token in enumerate(output[:, -1].tolist())
        ]
        return [reply if is_whole else CutReply(reply) for reply, is_whole in zip(replies, ended, strict=True)]

    def _common_tokens(self) -> list[int]:
        """Return the tokens that every chat begins with: the chat template and the instruction, up to the prompt."""
        first, *others = (self.encode(probe) for probe in PROBES)
        return first[: min(shared_length(first, other) for other in others)]

    @torch.inference_mode()
    def _encode_prefix(self) -> DynamicCache:
        cache = DynamicCache(config=self._model.config.text_config)
        ids = torch.tensor([self._prefix], device=self._model.device)
        self._model.model.rope_deltas = None
        self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    def _cache_for(self, rows: int, length: int) -> DynamicCache | None:
        """Return a copy of the instruction's cache for a batch. A copy is needed because decoding appends in place."""
        if self._prefix_cache is None or length == 0:
            return None
        cache = copy.deepcopy(self._prefix_cache)
        if length < len(self._prefix):
            cache.crop(length - len(self._prefix))  # a negative argument removes that many tokens at the end
        cache.batch_repeat_interleave(rows)
        return cache

    def _stop_tokens(self) -> list[int]:
        end = self._greedy.eos_token_id
        return [*end] if isinstance(end, list) else [end]

    def _build_grammar(self, schema: JsonSchema) -> ArrayGrammar:
        vocab_size = int(self._model.config.text_config.vocab_size)
        return ArrayGrammar(self._tokenizer, vocab_size, self._stop_tokens(), schema)


def greedy_config(
    published: GenerationConfig, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> GenerationConfig:
    """Return a copy of a checkpoint's generation settings that decodes greedily. Stop tokens and penalties stay.

    Args:
        published: the checkpoint's settings; not changed.
        tokenizer: gives the stop and padding tokens if the settings have none.
        max_new_tokens: longest reply in tokens.
    """
    config = copy.deepcopy(published)
    config.update(do_sample=False, temperature=None, top_p=None, top_k=None, num_beams=1, max_length=None)
    config.max_new_tokens = max_new_tokens
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return config


def choose_attention(flash: bool, device: torch.device, dtype: torch.dtype) -> str:
    """Return the name of the attention implementation for `from_pretrained`.

    It is FlashAttention 2 if `flash` is true, flash-attn is installed, and the model is on a GPU in half precision.
    """
    if not flash:
        return "sdpa"
    if device.type == "cuda" and dtype != torch.float32 and is_flash_attn_2_available():
        return "flash_attention_2"
    logger.warning("use_flash_attention: needs flash-attn, a GPU and half precision; using sdpa for the text parser")
    return "sdpa"


def shared_length(left: Sequence[object], right: Sequence[object]) -> int:
    """Count the leading items that two sequences share.

    >>> shared_length([1, 2, 3], [1, 2, 4])
    2
    """
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def pad_between(chats: Sequence[list[int]], shared: int, pad_token: int) -> tuple[Tensor, Tensor]:
    """Pad chats to one width, between their shared beginning and the rest.

    Args:
        chats: token ids of at least one chat; each chat is longer than `shared`.
        shared: number of leading tokens that all chats share and that the cache covers.
        pad_token: id of the padding token.

    Returns:
        Token ids and attention mask, both (chats, width) int64 on the CPU; the mask is 0 at padding, else 1.

    >>> ids, mask = pad_between([[7, 8, 1, 2], [7, 8, 3]], shared=2, pad_token=0)
    >>> ids.tolist(), mask.tolist()
    ([[7, 8, 1, 2], [7, 8, 0, 3]], [[1, 1, 1, 1], [1, 1, 0, 1]])
    """
    width = max(len(chat) for chat in chats)
    gaps = [width - len(chat) for chat in chats]
    ids = [chat[:shared] + [pad_token] * gap + chat[shared:] for chat, gap in zip(chats, gaps, strict=True)]
    mask = [[1] * shared + [0] * gap + [1] * (width - gap - shared) for gap in gaps]
    return torch.tensor(ids), torch.tensor(mask)
