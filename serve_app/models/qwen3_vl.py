"""EntityParser: prompts in, the language model's raw replies out. A string face over Qwen3-VL, text only.

Decodes greedily, in left-padded batches, on top of a key-value cache of the constant instruction, and stops each reply
at its array's end. In float32 the replies are those of plain greedy decoding of one chat at a time, up to that end; in
half precision a near-tie between two tokens may fall the other way, as it may between any two batch sizes.

Knows no Ray, no wire format and no cache of prompts; what a reply means is `entities`' business. Not thread-safe by
design: the model keeps state during a generate, so one thread at a time may call it.
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
"""Prompts with different first characters: the tokens that all their chats begin with depend on no prompt."""

Decode = Callable[[Sequence[list[int]]], list[str]]


def load(config: AppConfig) -> LocalParser:
    """Load the configured checkpoint; see config.engines."""
    return EntityParser.load(config.models.text_parser, config.device, config.limits)


class EntityParser:
    """A loaded Qwen3-VL, without its vision tower.

    Args:
        model: in eval mode, on its device. Its vision tower is dropped and its generation settings made greedy.
        processor: the checkpoint's own, with its chat template.
        max_new_tokens: longest reply.
        constrained: the schema of the only replies that are allowed (needs xgrammar); None allows any.
        decode: the device work, chats as token ids in and one reply per chat out; None means this model's.

    Raises:
        ConfigError: `constrained` without xgrammar.
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
        model.model.visual = None  # text only: 1.15 GB less on the 8B model
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
            config: which checkpoint, in which dtype, on which device, and the longest reply.
            device: which GPU `auto` and `cuda` mean, and whether FlashAttention 2 is wanted.
            limits: what `array_schema` makes the bounds of constrained decoding of; None means the default.

        Raises:
            CheckpointError: missing, gated, incomplete, damaged, of another model, or the device is not there.
            ConfigError: constrained decoding without xgrammar.
        """
        path = locations.resolve(config.model_name, "parser")
        target = devices.resolve_device(config.device_map, device.cuda_device)
        with checkpoints.explain(config.model_name):  # a card that is full refuses even this
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
        """Let the model answer each prompt.

        Args:
            prompts: image-generation prompts, at most as many as one batch shall hold; may be empty.

        Returns:
            For each prompt, in order, the raw reply without special tokens, a CutReply where it ended at its limit; or
            TooLarge where the prompt has more tokens than the model reads; or DeviceOutOfMemory where it does not fit
            into the device's memory even alone.
        """
        chats = [self._tokens_or_error(prompt) for prompt in prompts]
        rows = [chat for chat in chats if isinstance(chat, list)]
        outcomes = halve_when_full(self._decode, rows, "prompt")
        replies = iter(outcomes)
        return [next(replies) if isinstance(chat, list) else chat for chat in chats]

    def encode(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt's whole chat, up to where the reply begins.

        Text that spells one of the tokenizer's special tokens is blanked: a prompt cannot open or close a turn.
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
        """Decode one batch of chats; raises torch.OutOfMemoryError where it does not fit."""
        # 1. What all chats share with the instruction's cache; a prompt may merge with its last token.
        shared = min(shared_length(self._prefix, chat) for chat in chats)
        # 2. The rest of each chat, left-padded after the shared part.
        input_ids, mask = pad_between(chats, shared, int(self._greedy.pad_token_id))
        width = input_ids.shape[1]
        # 3. Greedy decoding. The model remembers the position offsets of its last call: forget them.
        self._model.model.rope_deltas = None
        stop = None if self._grammar else ArrayEnd(self._tokenizer, self._closing, width)
        output = self._model.generate(
            input_ids=input_ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            past_key_values=self._cache_for(len(chats), shared),
            generation_config=self._greedy,
            stopping_criteria=StoppingCriteriaList([stop] if stop else []),
            # After the array the grammar itself allows only the end, so it needs no other stop.
            logits_processor=LogitsProcessorList([self._grammar.processor()] if self._grammar else []),
        )
        replies = [self._text(row) for row in output[:, width:]]
        if output.shape[1] - width < self._max_new_tokens:
            return replies
        # A row that ended before the last column has a stop token or padding there.
        ends = {self._greedy.pad_token_id, *self._stop_tokens()}
        ended = [
            token in ends or bool(stop and stop.has_ended(row)) for row, token in enumerate(output[:, -1].tolist())
        ]
        return [reply if is_whole else CutReply(reply) for reply, is_whole in zip(replies, ended, strict=True)]

    def _common_tokens(self) -> list[int]:
        """Return the tokens that every chat begins with: template and instruction up to the prompt."""
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
        """Return a copy of the instruction's cache for a batch: decoding appends to it in place."""
        if self._prefix_cache is None or length == 0:
            return None
        cache = copy.deepcopy(self._prefix_cache)
        if length < len(self._prefix):
            cache.crop(length - len(self._prefix))  # a negative length: how many tokens to forget
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
    """Make a checkpoint's generation settings greedy; what it says of stop tokens and penalties stays."""
    config = copy.deepcopy(published)
    config.update(do_sample=False, temperature=None, top_p=None, top_k=None, num_beams=1, max_length=None)
    config.max_new_tokens = max_new_tokens
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return config


def choose_attention(flash: bool, device: torch.device, dtype: torch.dtype) -> str:
    """Choose the attention: FlashAttention 2 where it is wanted, installed, and on a GPU in half precision."""
    if not flash:
        return "sdpa"
    if device.type == "cuda" and dtype != torch.float32 and is_flash_attn_2_available():
        return "flash_attention_2"
    logger.warning("use_flash_attention: needs flash-attn, a GPU and half precision; using sdpa for the text parser")
    return "sdpa"


def shared_length(left: Sequence[object], right: Sequence[object]) -> int:
    """Count the leading tokens, or characters, that two chats share."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def pad_between(chats: Sequence[list[int]], shared: int, pad_token: int) -> tuple[Tensor, Tensor]:
    """Pad chats to one width, between their shared beginning and the rest.

    Args:
        chats: token ids, at least one chat; each longer than `shared`.
        shared: leading tokens that all chats have in common and a cache holds.
        pad_token: id that fills the gap.

    Returns:
        Token ids and attention mask, both (chats, width) int64; the mask is 0 in the gap.
    """
    width = max(len(chat) for chat in chats)
    gaps = [width - len(chat) for chat in chats]
    ids = [chat[:shared] + [pad_token] * gap + chat[shared:] for chat, gap in zip(chats, gaps, strict=True)]
    mask = [[1] * shared + [0] * gap + [1] * (width - gap - shared) for gap in gaps]
    return torch.tensor(ids), torch.tensor(mask)
