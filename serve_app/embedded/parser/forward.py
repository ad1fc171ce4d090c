"""A training forward pass (teacher forcing) for the text part of Qwen3-VL, fast for small models on a CPU.

Every sample starts with the same tokens: the chat up to the prompt, with its constant instruction. They are computed
once per batch. Every sample attends to their keys and values, and gradients flow back through them. The computation is
that of the stock text model, optionally with linear layers and attention scores in bfloat16. A test compares the logits
with those of the stock forward. The caller computes the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration


@dataclass(frozen=True)
class Batch:
    """The samples of a step, padded on the right, on the model's device.

    Args:
        input_ids: (B, L) int64, the tokens after the shared prefix: the prompt, the rest of the chat, the answer.
        is_answer: (B, L) bool, True on tokens that the loss counts: the answer, without wrong entities, and its end.
    """

    input_ids: Tensor
    is_answer: Tensor


@dataclass(frozen=True)
class _Layout:
    """Values that all layers use. P prefix tokens and B samples of L tokens form one row of T = P + B * L tokens."""

    prefix: int
    rows: int
    length: int
    cos: Tensor
    """(T, 1, D / 2), because both halves of a head have the same angles."""
    sin: Tensor
    """(T, 1, D / 2)."""
    prefix_mask: Tensor
    """(P, P), minus infinity above the diagonal."""
    own_mask: Tensor
    """(L, L), minus infinity above the diagonal."""
    dtype: torch.dtype


def answer_logits(
    model: Qwen3VLForConditionalGeneration, prefix_ids: Sequence[int], batch: Batch, dtype: torch.dtype
) -> Tensor:
    """Compute the logits of the answers' tokens.

    Args:
        model: with float32 weights; its vision part is not used.
        prefix_ids: the tokens that every sample starts with.
        batch: B samples, on the model's device.
        dtype: dtype of the linear layers and the attention scores; norms and the residual stream are float32.

    Returns:
        (N, V) in `dtype`: logits over the vocabulary for the N answer tokens of the batch, row by row.
    """
    text_model = model.model.language_model
    rows, length = batch.input_ids.shape
    prefix = len(prefix_ids)
    device = batch.input_ids.device
    tokens = torch.cat((torch.tensor(prefix_ids, device=device), batch.input_ids.reshape(-1)))
    positions = torch.cat((torch.arange(prefix), torch.arange(prefix, prefix + length).repeat(rows))).to(device)
    hidden = nn.functional.embedding(tokens, text_model.embed_tokens.weight)
    # For text, all three axes of the rotary embedding have the same position.
    cos, sin = text_model.rotary_emb(hidden[None], positions[None, None].expand(3, 1, -1))
    half = cos.shape[-1] // 2
    layout = _Layout(
        prefix=prefix,
        rows=rows,
        length=length,
        cos=cos[0, :, None, :half],
        sin=sin[0, :, None, :half],
        prefix_mask=_causal(prefix, dtype, device),
        own_mask=_causal(length, dtype, device),
        dtype=dtype,
    )
    for layer in text_model.layers:
        normed = _rms(hidden, layer.input_layernorm).to(dtype)
        hidden = hidden + _linear(_attend(normed, layer.self_attn, layout), layer.self_attn.o_proj)
        normed = _rms(hidden, layer.post_attention_layernorm).to(dtype)
        gated = nn.functional.silu(_linear(normed, layer.mlp.gate_proj)) * _linear(normed, layer.mlp.up_proj)
        hidden = hidden + _linear(gated, layer.mlp.down_proj)
    before_answers = hidden[prefix:].view(rows, length, -1)[:, :-1][batch.is_answer[:, 1:]]
    return _linear(_rms(before_answers, text_model.norm).to(dtype), model.lm_head)


def _causal(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((size, size), float("-inf"), dtype=dtype, device=device).triu(1)


def _linear(values: Tensor, layer: nn.Linear) -> Tensor:
    return values @ layer.weight.to(values.dtype).t()


class _RootMeanSquareNorm(torch.autograd.Function):
    """The stock RMSNorm with a backward pass that reads memory fewer times. On a CPU, memory limits the speed."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Normalize the last axis in float32."""
        values = values.float()
        inverse: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        inverse = inverse.square_().div_(values.shape[-1]).add_(epsilon).rsqrt_()
        normed = values * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of values and weight."""
        normed, inverse, weight = ctx.saved_tensors
        product = gradient * normed
        weight_gradient = product.flatten(0, -2).sum(0)
        along = (product @ weight).div_(normed.shape[-1]).unsqueeze(-1)
        return (gradient * weight).addcmul_(normed, along, value=-1).mul_(inverse), weight_gradient, None


def _rms(values: Tensor, norm: Any) -> Tensor:
    normed: Tensor = _RootMeanSquareNorm.apply(values, norm.weight, norm.variance_epsilon)
    return normed


def _rotate(values: Tensor, layout: _Layout) -> Tensor:
    first, second = values.chunk(2, dim=-1)
    return torch.cat((first * layout.cos - second * layout.sin, second * layout.cos + first * layout.sin), dim=-1)


def _attend(normed: Tensor, attention: Any, layout: _Layout) -> Tensor:
    """Compute causal attention: the prefix attends to itself, and every sample to the prefix and to itself.

    Args:
        normed: (T, C).
        attention: the stock `Qwen3VLTextAttention`, with K key heads of width D and G query heads for each.
        layout: positions and masks of the T tokens.

    Returns:
        (T, K * G * D).
    """
    prefix, rows, length, dtype = layout.prefix, layout.rows, layout.length, layout.dtype
    total, width = normed.shape[0], attention.head_dim
    query = _linear(normed, attention.q_proj).view(total, -1, width)
    key = _linear(normed, attention.k_proj).view(total, -1, width)
    value = _linear(normed, attention.v_proj).view(total, -1, width)
    query = (_rotate(_rms(query, attention.q_norm), layout) * attention.scaling).to(dtype)
    key = _rotate(_rms(key, attention.k_norm), layout).to(dtype)
    heads = key.shape[1]
    groups = query.shape[1] // heads
    shared_key, shared_value = key[:prefix].transpose(0, 1), value[:prefix].transpose(0, 1)  # (K, P, D)

    # 1. The prefix.
    prefix_query = query[:prefix].view(prefix, heads, groups, width).permute(1, 2, 0, 3).reshape(heads, -1, width)
    scores = (prefix_query @ shared_key.transpose(1, 2)).view(heads, groups, prefix, prefix) + layout.prefix_mask
    prefix_out = scores.softmax(-1).view(heads, groups * prefix, prefix) @ shared_value
    prefix_out = prefix_out.view(heads, groups, prefix, width).permute(2, 0, 1, 3).reshape(prefix, -1)

    # 2. The samples: one softmax over the prefix's keys and their own.
    own_query = query[prefix:].view(rows, length, heads, groups, width).permute(2, 0, 3, 1, 4)
    own_query = own_query.reshape(heads, rows * groups * length, width)
    own_key = key[prefix:].view(rows, length, heads, width).permute(2, 0, 3, 1).reshape(heads * rows, width, length)
    own_value = value[prefix:].view(rows, length, heads, width).permute(2, 0, 1, 3).reshape(heads * rows, length, width)
    to_prefix = (own_query @ shared_key.transpose(1, 2)).view(heads, rows, groups * length, prefix)
    to_own = own_query.reshape(heads * rows, groups * length, width) @ own_key
    to_own = (to_own.view(heads, rows, groups, length, length) + layout.own_mask).view(heads, rows, -1, length)
    weights = torch.cat((to_prefix, to_own), dim=-1).softmax(-1)
    prefix_weights, own_weights = weights.split((prefix, length), dim=-1)
    out = (prefix_weights.reshape(heads, -1, prefix) @ shared_value).view(heads * rows, groups * length, width)
    out = out + own_weights.reshape(heads * rows, groups * length, length) @ own_value
    out = out.view(heads, rows, groups, length, width).permute(1, 3, 0, 2, 4).reshape(rows * length, -1)
    return torch.cat((prefix_out, out))
