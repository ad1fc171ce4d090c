"""Makes a trained parser larger without changing its outputs, so that training continues at the same loss.

Source: Net2Net (arXiv 1511.05641), for growth that preserves the function.
"""

from __future__ import annotations

import copy

import torch
from transformers import Qwen3VLForConditionalGeneration


def grow(model: Qwen3VLForConditionalGeneration, layers: int, key_heads: int) -> Qwen3VLForConditionalGeneration:
    """Copy a model into one with more layers, and more key and value heads. The logits stay the same.

    Args:
        model: the trained model; not changed.
        layers: layers of the text part, at least as many as the model has. New layers are copies of old ones that add
            nothing to the residual stream yet.
        key_heads: key and value heads of a layer, a multiple of the model's. New heads are copies of old ones.

    Returns:
        A new model.

    Raises:
        ValueError: `layers` is smaller than the model's, or the heads cannot be copied to `key_heads`.
    """
    config = copy.deepcopy(model.config)
    old_layers, old_heads = config.text_config.num_hidden_layers, config.text_config.num_key_value_heads
    if layers < old_layers:
        raise ValueError(
            f"layers: the checkpoint has {old_layers}, which cannot become {layers}; give at least as many"
        )
    if key_heads % old_heads or config.text_config.num_attention_heads % key_heads:
        raise ValueError(
            f"key heads: the checkpoint has {old_heads}, which cannot become {key_heads}; give a multiple of "
            f"{old_heads} that divides {config.text_config.num_attention_heads}"
        )
    config.text_config.num_hidden_layers, config.text_config.num_key_value_heads = layers, key_heads
    grown = Qwen3VLForConditionalGeneration(config)
    grown.generation_config = copy.deepcopy(model.generation_config)
    weights = {name: tensor for name, tensor in model.state_dict().items() if ".layers." not in name}
    old, new = model.model.language_model.layers, grown.model.language_model.layers
    grown.load_state_dict(weights, strict=False)
    sources = layer_sources(old_layers, layers)
    for index, (source, layer) in enumerate(zip(sources, new, strict=True)):
        layer.load_state_dict(_repeat_key_heads(old[source].state_dict(), old_heads, key_heads))
        if index and sources[index - 1] == source:
            torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
            torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return grown


def layer_sources(old_layers: int, layers: int) -> list[int]:
    """Return the old layer that each layer is copied from. If an entry repeats, the later layers are the added copies.

    >>> layer_sources(5, 7)
    [0, 1, 1, 2, 3, 3, 4]
    """
    added = layers - old_layers
    extra = [(2 * number + 1) * old_layers // (2 * added) for number in range(added)]
    return sorted([*range(old_layers), *extra])


def _repeat_key_heads(layer: dict[str, torch.Tensor], old_heads: int, key_heads: int) -> dict[str, torch.Tensor]:
    """Repeat each key and value head. Copies are adjacent, because adjacent query heads share a key head."""
    repeated = {
        name: layer[name].unflatten(0, (old_heads, -1)).repeat_interleave(key_heads // old_heads, 0).flatten(0, 1)
        for name in ("self_attn.k_proj.weight", "self_attn.v_proj.weight")
    }
    return layer | repeated
