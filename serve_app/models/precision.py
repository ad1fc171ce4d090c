"""Which parts of SAM3's detector head are rounded to half precision, and what a GPU does with what is not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.sam3.modeling_sam3 import Sam3Attention, Sam3MLP


def allow_tf32(allowed: bool) -> None:
    """Let a GPU round float32 to TF32 in matrix products and convolutions, or in neither; holds for the process."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed  # True by default, whatever the line above says


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
