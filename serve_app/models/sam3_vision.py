"""SAM3's vision encoder over batches of images, with the checkpoint's own modules.

Against `Sam3VisionModel.forward`:

1. In half precision only attention, MLPs and the finer maps are rounded, all the work. What the layers add to is not:
   rounded after every layer, the sum moves most scores about twice as far from those of float32. Nor are the positions
   of the rotary embedding: where the grid is three windows wide, a position is a multiple of a third, which bfloat16
   does not have, and the rounded angles would move the scores more than all other rounding together.
2. The rotary embedding is one product of complex numbers, with angles computed once; the stock form takes seven passes
   over float32 queries and keys in every layer.
3. The neck's last level, which the detector does not use, is not computed.

In float32 every step is exact up to float rounding.

Source of the modules and their order: transformers, models/sam3/modeling_sam3.py, `Sam3ViTLayer.forward`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.sam3.modeling_sam3 import apply_rotary_pos_emb_2d, window_partition, window_unpartition

Angles = tuple[Tensor, Tensor]
"""Cosines and sines, (N, head_dim) each, of N positions; every angle stands there twice in a row."""


class VisionEncoder(nn.Module):
    """The vision encoder.

    Args:
        encoder: of the loaded model, on its device, in float32; its modules are shared, and cast where they compute in
            half precision.
        dtype: what attention, MLPs and the finer maps compute in.
    """

    def __init__(self, encoder: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.backbone = encoder.backbone
        # The last level before the unused one, all that scores and boxes see, costs a thousandth and stays exact.
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
        """See images.

        Args:
            pixels: (B, 3, S, S) float32.

        Returns:
            The finer maps, finest first, each (B, D, H_i, W_i) in the encoder's dtype, and the coarsest map in float32.
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
        # torch.compile fuses the stock form, and generates no code for complex numbers.
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
    """(N, head_dim / 2) complex numbers of length 1."""
    return torch.complex(*(part[0, :, ::2].contiguous() for part in angles))


def _rotated(states: Tensor, rotations: Tensor) -> Tensor:
    numbers = torch.view_as_complex(states.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(numbers * rotations).flatten(-2).to(states.dtype)
