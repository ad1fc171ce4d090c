"""Which parts of a model stay in float32 when its matrix products and its attention compute in half precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.sam3.modeling_sam3 import Sam3Attention, Sam3MLP


def allow_tf32(allowed: bool) -> None:
    """Let a GPU round float32 to TF32 in matrix products and convolutions, or in neither; holds for the process."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed  # True by default, whatever the line above says


class _RoundedNorm(nn.Module):
    """A layer norm in float32 whose output goes on in another type."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        super().__init__()
        self._norm, self._dtype = norm, dtype

    def forward(self, states: Tensor) -> Tensor:
        """Normalize."""
        normed: Tensor = self._norm(states)
        return normed.to(self._dtype)


def round_backbone(backbone: Any, dtype: torch.dtype) -> None:
    """Let a vision transformer's attention and MLPs, all the work, compute in `dtype`.

    The rest is not even rounded. What the layers add to: rounded after every layer, the sum moves most scores about
    twice as far from those of float32. The positions and frequencies of the rotary embedding: where the grid is three
    windows wide, a position is a multiple of a third, which bfloat16 does not have, and the rounded angles would move
    the scores more than all other rounding together.
    """
    if dtype is torch.float32:
        return
    for layer in backbone.layers:
        layer.attention.to(dtype)
        layer.mlp.to(dtype)
        layer.layer_norm1 = _RoundedNorm(layer.layer_norm1, dtype)
        layer.layer_norm2 = _RoundedNorm(layer.layer_norm2, dtype)


class _RoundedAttention(nn.Module):
    """Attention that computes in half precision, whatever its inputs come in."""

    def __init__(self, attention: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._attention, self._dtype = attention.to(dtype), dtype

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; inputs that are one tensor are cast once."""
        rounded = query.to(self._dtype)
        rounded_key = rounded if key is query else key.to(self._dtype)
        rounded_value = rounded_key if value is key else value.to(self._dtype)
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.to(self._dtype)
        attended: tuple[Tensor, Tensor | None] = self._attention(
            query=rounded, key=rounded_key, value=rounded_value, attention_mask=attention_mask
        )
        return attended


class _RoundedMlp(nn.Module):
    """An MLP that computes in half precision, whatever its input comes in."""

    def __init__(self, mlp: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._mlp, self._dtype = mlp.to(dtype), dtype

    def forward(self, states: Tensor) -> Tensor:
        """Transform."""
        transformed: Tensor = self._mlp(states.to(self._dtype))
        return transformed


def round_layers(module: nn.Module, dtype: torch.dtype) -> None:
    """Let every attention and MLP below a module of SAM3's detector compute in `dtype`.

    The rest stays in float32: their sum with what they were given, layer norms, and the small heads that make boxes,
    presence and scores.
    """
    if dtype is torch.float32:
        return
    for name, child in module.named_children():
        if isinstance(child, Sam3Attention):
            setattr(module, name, _RoundedAttention(child, dtype))
        elif isinstance(child, Sam3MLP):
            setattr(module, name, _RoundedMlp(child, dtype))
        else:
            round_layers(child, dtype)
