"""Runs SAM3's detector head on cached vision features, for many (image, phrase) pairs in one pass.

It uses the checkpoint's own modules and computes nothing twice. The differences from one `Sam3Model.forward` per pair
are:

1. The first encoder layer's self-attention depends on the image only, so it runs once per image (`attend`).
2. Encoder, decoder and scores run for all pairs at once (`detect`).
3. The mask decoder runs only for the queries that the caller keeps (`masks`). It runs for one image at a time, so the
   finest feature maps are broadcast over the image's phrases and never copied.
4. The 1x1 projection of the finest map is linear, so it is applied to the few mask embeddings and not to every pixel.

In float32, the results equal those of the stock model up to rounding. In half precision, attention, MLPs and the pixel
embeddings for the masks are rounded (see `precision.round_layers`); scores, presence and boxes are not.

It works on tensors only: image files, thresholds and caches are left to the caller.

Source of the modules and their order: transformers, models/sam3/modeling_sam3.py, `Sam3Model.forward`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam3Model
from transformers.models.sam3.modeling_sam3 import box_cxcywh_to_xyxy, inverse_sigmoid

from serve_app.models.precision import round_layers


@dataclass(frozen=True)
class PairOutputs:
    """The detector's outputs for P pairs, with Q queries, D channels and T image tokens; float32, on the device.

    Attributes:
        logits: (P, Q) detection logits.
        presence_logits: (P,) presence logits.
        boxes: (P, Q, 4) xyxy, relative to the image, in [0, 1].
        queries: (P, Q, D) decoder states, for the mask decoder.
        tokens: (P, T, D) encoder states, for the mask decoder.
    """

    logits: Tensor
    presence_logits: Tensor
    boxes: Tensor
    queries: Tensor
    tokens: Tensor


class DetectorHead(nn.Module):
    """The part of a `Sam3Model` after the vision and text encoders.

    Args:
        model: the loaded model. Its modules are shared, not copied, and cast where they compute in half precision.
        grid_hw: height and width of the coarsest feature map, in tokens.
        dtype: dtype of attention, MLPs and pixel embeddings; scores, presence and boxes are float32.
    """

    position: Tensor

    def __init__(self, model: Sam3Model, grid_hw: tuple[int, int], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.encoder = model.detr_encoder
        self.decoder = model.detr_decoder
        self.scoring = model.dot_product_scoring
        self.mask_decoder = model.mask_decoder
        self.grid_hw = grid_hw
        self.dtype = dtype
        for part in (self.encoder, self.decoder, self.mask_decoder):
            round_layers(part, dtype)
        self.mask_decoder.pixel_decoder.to(dtype)
        weight = self.decoder.query_embed.weight
        shape = torch.Size((1, weight.shape[-1], *grid_hw))
        position = model.vision_encoder.neck.position_encoding(shape, weight.device, weight.dtype)
        self.register_buffer("position", position.flatten(2).transpose(1, 2), persistent=False)  # (1, T, D)
        self._spatial_shapes = torch.tensor([grid_hw], dtype=torch.long)
        self.decoder._get_rpb_matrix = self._position_bias

    def compile_with(self, compile_: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace `detect` and `pixels` by their compiled forms.

        Args:
            compile_: compiles one function; see `compiling.compiler`.
        """
        for name in ("detect", "pixels"):
            setattr(self, name, compile_(getattr(self, name)))

    def attend(self, coarse: Tensor) -> Tensor:
        """Run the first encoder layer's self-attention, which does not depend on the phrase.

        Args:
            coarse: (B, D, h, w) float32, the coarsest feature maps of B images.

        Returns:
            (B, T, D) float32, the image tokens that `detect` takes, T = h x w.
        """
        layer = self.encoder.layers[0]
        tokens = coarse.flatten(2).transpose(1, 2)
        normed = layer.layer_norm1(tokens)
        placed = normed + self.position
        attended, _ = layer.self_attn(query=placed, key=placed, value=normed)
        shared: Tensor = tokens + attended
        return shared

    def detect(self, tokens: Tensor, text: Tensor, text_mask: Tensor) -> PairOutputs:
        """Score every query of every pair.

        Args:
            tokens: (P, T, D) float32, the output of `attend` for each pair's image.
            text: (P, L, D) float32, projected text states.
            text_mask: (P, L) bool, False at padding.
        """
        position = self.position.expand(len(tokens), -1, -1)
        tokens = self._encode(tokens, text, text_mask, position)
        decoded = self.decoder(
            vision_features=tokens,
            text_features=text,
            vision_pos_encoding=position,
            text_mask=_text_attention(text_mask),
            spatial_shapes=self._spatial_shapes,
        )
        queries = decoded.intermediate_hidden_states[-1]
        offsets = self.decoder.box_head(queries)
        boxes = box_cxcywh_to_xyxy((inverse_sigmoid(decoded.reference_boxes[-1]) + offsets).sigmoid())
        logits = self.scoring(decoder_hidden_states=queries[None], text_features=text, text_mask=text_mask)
        return PairOutputs(
            logits=logits[0, ..., 0],
            presence_logits=decoded.presence_logits[-1][:, 0],
            boxes=boxes,
            queries=queries,
            tokens=tokens,
        )

    def _position_bias(self, boxes: Tensor, _: object) -> Tensor:
        """Compute the queries' attention bias for image tokens, from a token's position relative to the query's box.

        Replaces the decoder's own method, which reads the grid's size from a tensor. That would break a compiled graph,
        and make the host wait for a GPU a dozen times per pass. The result is by far the largest tensor of the decoder.
        It is computed in the head's dtype, which attention needs, so that no float32 tensor of this size is written.

        Args:
            boxes: (P, Q, 4) reference boxes, cxcywh relative to the image.

        Returns:
            (P, heads, Q, T) in the head's dtype.
        """
        edges = box_cxcywh_to_xyxy(boxes)
        height, width = self.grid_hw
        rows = self._axis_bias(self.decoder.box_rpb_embed_y, edges[..., 1::2], height)
        columns = self._axis_bias(self.decoder.box_rpb_embed_x, edges[..., 0::2], width)
        return (rows[..., :, None] + columns[..., None, :]).flatten(3)

    def _axis_bias(self, embed: nn.Module, edges: Tensor, size: int) -> Tensor:
        """Compute the bias of one axis: box edges (P, Q, 2) to (P, heads, Q, size), in the head's dtype."""
        cells = torch.arange(size, device=edges.device, dtype=edges.dtype) / size
        deltas = (cells[:, None] - edges[:, :, None, :]) * 8
        scaled = deltas.sign() * torch.log2(deltas.abs() + 1.0) / math.log2(8)
        embedded: Tensor = embed(scaled)
        return embedded.permute(0, 3, 1, 2).to(self.dtype)

    def _encode(self, tokens: Tensor, text: Tensor, text_mask: Tensor, position: Tensor) -> Tensor:
        text_attention = _text_attention(text_mask)
        first, *others = self.encoder.layers
        attended, _ = first.cross_attn(
            query=first.layer_norm2(tokens), key=text, value=text, attention_mask=text_attention
        )
        tokens = tokens + attended
        tokens = tokens + first.mlp(first.layer_norm3(tokens))
        for layer in others:
            tokens = layer(
                tokens, prompt_feats=text, vision_pos_encoding=position, prompt_cross_attn_mask=text_attention
            )
        return tokens

    def masks(
        self, fine: Sequence[Tensor], tokens: Tensor, queries: Sequence[Tensor], text: Tensor, text_mask: Tensor
    ) -> list[Tensor]:
        """Compute the masks of the kept queries, for P phrases of one image.

        Args:
            fine: the image's finer feature maps, finest first, each (D, H_i, W_i).
            tokens: (P, T, D) float32, encoder states of each phrase.
            queries: P tensors (N_p, D) float32: each phrase's kept queries.
            text: (P, L, D) float32, projected text states.
            text_mask: (P, L) bool, False at padding. Rows of `tokens`, `text` and this after the first P are ignored.

        Returns:
            P tensors (N_p, H_0, W_0) float32 of mask logits, on the device.
        """
        pixels = self.pixels(fine, tokens, text, text_mask)
        decoder = self.mask_decoder
        projection = decoder.instance_projection
        weight = projection.weight.flatten(1)
        logits = []
        for pair, kept in enumerate(queries):
            embedded = decoder.mask_embedder(kept)
            mask = torch.einsum("nd,dhw->nhw", (embedded @ weight).to(self.dtype), pixels[pair])
            logits.append(mask.float() + (embedded @ projection.bias)[:, None, None])
        return logits

    def pixels(self, fine: Sequence[Tensor], tokens: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Embed every pixel of the mask grid for each phrase of one image; arguments as in `masks`.

        Returns:
            (P, D, H_0, W_0) in the head's dtype.
        """
        decoder = self.mask_decoder
        attended, _ = decoder.prompt_cross_attn(
            query=decoder.prompt_cross_attn_norm(tokens),
            key=text,
            value=text,
            attention_mask=_text_attention(text_mask),
        )
        pixels = (tokens + attended).to(self.dtype).transpose(1, 2).unflatten(2, self.grid_hw)
        upsampling = decoder.pixel_decoder
        for stage, level in enumerate(reversed(fine)):
            pixels = F.interpolate(pixels, size=level.shape[-2:], mode="nearest") + level.to(self.dtype)
            pixels = F.relu(upsampling.norms[stage](upsampling.conv_layers[stage](pixels)))
        embedded: Tensor = pixels
        return embedded


def _text_attention(text_mask: Tensor) -> Tensor:
    """Turn a text mask (P, L) into an attention mask (P, 1, 1, L).

    transformers uses a mask with four dimensions unchanged. If a mask has two, the host first checks whether it has
    padding, and must wait for the device.
    """
    return text_mask[:, None, None, :]
