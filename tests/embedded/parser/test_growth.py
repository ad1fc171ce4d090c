import pytest
import torch

from serve_app.embedded.parser.checkpoint import build_model
from serve_app.embedded.parser.growth import grow


def test_a_grown_parser_computes_the_same_and_learns_in_every_part() -> None:
    torch.manual_seed(0)
    small = build_model(50, hidden_size=128, layers=3, key_heads=2)
    for parameter in small.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    large = grow(small, layers=5, key_heads=4)
    assert large.config.text_config.num_hidden_layers == 5
    assert large.config.text_config.num_key_value_heads == 4
    ids = torch.randint(7, 50, (2, 12))
    logits = large(input_ids=ids).logits
    torch.testing.assert_close(logits, small(input_ids=ids).logits, atol=1e-5, rtol=1e-4)

    logits.logsumexp(-1).sum().backward()
    # A new layer's other weights follow once what they feed is no longer zero.
    assert all(layer.mlp.down_proj.weight.grad.any() for layer in large.model.language_model.layers)
    assert all(layer.self_attn.o_proj.weight.grad.any() for layer in large.model.language_model.layers)


def test_a_parser_of_the_same_size_is_a_copy() -> None:
    small = build_model(50, hidden_size=64, layers=2, key_heads=1)
    copy = grow(small, layers=2, key_heads=1)
    assert all(torch.equal(tensor, copy.state_dict()[name]) for name, tensor in small.state_dict().items())


@pytest.mark.parametrize(("layers", "key_heads"), [(1, 1), (2, 3)], ids=["shallower", "three heads for two queries"])
def test_a_size_that_cannot_be_grown_to_is_named(layers: int, key_heads: int) -> None:
    with pytest.raises(ValueError, match="which cannot become"):
        grow(build_model(50, hidden_size=64, layers=2, key_heads=1), layers, key_heads)
