"""Runs SAM3's vision encoder on batches of images, with the checkpoint's own modules.

The differences from `Sam3VisionModel.forward` are:

1. In half precision, only attention, MLPs and the finer feature maps are rounded; they are nearly all of the work. The
   residual stream stays in float32. If it were rounded after every layer, too, the error of most scores would be about
   twice as large. The positions of the rotary embedding stay in float32, too. If the grid is three windows wide, they
   are multiples of 1/3, which bfloat16 cannot represent; the rounded angles would change the scores more than all other
   rounding together.
2. The rotary embedding is one product of complex numbers, with angles that are computed once. The stock form makes
   seven passes over float32 queries and keys in every layer.
3. The neck's last level is not computed, because the detector does not use it.

In float32, the results equal those of the stock encoder up to rounding.

Source of the modules and their order: transformers, models/sam3/modeling_sam3.py, `Sam3ViTLayer.forward`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.sam3.modeling_sam3 import apply_rotary_pos_emb_2d, window_partition, window_unpartition

Angles = tuple[Tensor, Tensor]
"""Cosines and sines of N positions, each tensor (1, N, head_dim); every angle occurs twice in a row."""


class VisionEncoder(nn.Module):
    """SAM3's vision encoder without the neck's last level.

    Args:
        encoder: vision encoder of the loaded model, on its device, in float32. Its modules are shared, not copied, and
            cast where they compute in half precision.
        dtype: dtype of attention, MLPs and the finer feature maps.
    """

    def __init__(self, encoder: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.backbone = encoder.backbone
        # Scores and boxes depend only on the coarsest of the maps that are used. It takes a thousandth of the time, so
        # it stays in float32.
        *fine, coarse = [*encoder.neck.fpn_layers][:-1]
        self.fine, self.coarse = nn.ModuleList(fine), coarse
        self.dtype = dtype
        for layer in self.backbone.layers:
            layer.attention.to(dtype)
            layer.mlp.to(dtype)
        self.fine.to(dtype)
        layers = {layer.window_size: layer for layer in self.backbone.layers}
        self._angles: dict[int, Angles] = {size: _angles(layer) for size, layer in layers.items()}
        self._rotations = {size: _rotations(angles) for size, angles in self._angles.items()}

    def forward(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute the feature maps of a batch of images.

        Args:
            pixels: (B, 3, S, S) float32, normalised.

        Returns:
            The finer maps, finest first, each (B, D, H_i, W_i) in the encoder's dtype, and the coarsest map
            (B, D, h, w) in float32.
        """
        patch = self.backbone.config.patch_size
        states = self.backbone.embeddings(pixels).unflatten(1, (pixels.shape[2] // patch, pixels.shape[3] // patch))
        states = self.backbone.layer_norm(states)
        for layer in self.backbone.layers:
            states = states + self._attended(layer, layer.layer_norm1(states).to(self.dtype))
            states = states + layer.mlp(layer.layer_norm2(states).to(self.dtype))
        maps = states.permute(0, 3, 1, 2)
        rounded = maps.to(self.dtype)
        return [level(rounded) for level in self.fine], self.coarse(maps)

    def _attended(self, layer: Any, states: Tensor) -> Tensor:
        size = layer.window_size
        if not size:
            return self._attention(layer.attention, states, size)
        windows, padded_hw = window_partition(states, size)
        attended: Tensor = window_unpartition(
            self._attention(layer.attention, windows, size), size, padded_hw, states.shape[1:3]
        )
        return attended

    def _attention(self, attention: Any, states: Tensor, size: int) -> Tensor:
        query, key, value = (
            project(states).flatten(1, 2).unflatten(2, (attention.num_attention_heads, -1)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        # torch.compile fuses the stock form, and cannot generate code for complex numbers.
        if torch.compiler.is_compiling():
            query, key = apply_rotary_pos_emb_2d(query, key, *self._angles[size])
        else:
            query, key = _rotated(query, self._rotations[size]), _rotated(key, self._rotations[size])
        attended = F.scaled_dot_product_attention(query, key, value, scale=attention.scaling)
        output: Tensor = attention.o_proj(attended.transpose(1, 2).reshape(states.shape))
        return output


def _angles(layer: Any) -> Angles:
    cosines, sines = layer.rotary_emb(layer.position_ids, layer.position_ids)
    return cosines, sines


def _rotations(angles: Angles) -> Tensor:
    """Turn angles into complex numbers of absolute value 1: (N, head_dim / 2)."""
    return torch.complex(*(part[0, :, ::2].contiguous() for part in angles))


def _rotated(states: Tensor, rotations: Tensor) -> Tensor:
    numbers = torch.view_as_complex(states.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(numbers * rotations).flatten(-2).to(states.dtype)
