"""Sets the precision of SAM3's detector head: which parts compute in half precision, and whether a GPU uses TF32."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.sam3.modeling_sam3 import Sam3Attention, Sam3MLP


def allow_tf32(allowed: bool) -> None:
    """Allow or forbid TF32 for float32 matrix products and convolutions on a GPU. Applies to the whole process."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed  # the line above does not set it, and its default is True


class _RoundedAttention(nn.Module):
    """Attention that casts its inputs, and computes in half precision."""

    def __init__(self, attention: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._attention, self._dtype = attention.to(dtype), dtype

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend. If inputs are the same tensor, it is cast once."""
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
    """An MLP that casts its input, and computes in half precision."""

    def __init__(self, mlp: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._mlp, self._dtype = mlp.to(dtype), dtype

    def forward(self, states: Tensor) -> Tensor:
        """Cast the input and apply the MLP."""
        transformed: Tensor = self._mlp(states.to(self._dtype))
        return transformed


def round_layers(module: nn.Module, dtype: torch.dtype) -> None:
    """Make every attention and MLP inside a module of SAM3's detector compute in `dtype`.

    The rest stays in float32: the residual sums, the layer norms, and the small heads for boxes, presence and scores.

    Args:
        module: changed in place.
        dtype: float32 changes nothing.
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
