import copy

import pytest
import torch

from serve_app.embedded.muon_adamw import MuonAdamW, orthogonalize


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)], ids=["wide", "tall", "square"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix, dtype)
    assert result.shape == matrix.shape
    assert result.dtype == dtype
    values = torch.linalg.svdvals(result.float())
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_both_optimizers_lower_the_loss_and_resume() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(16, 12), torch.nn.Linear(12, 12), torch.nn.Linear(12, 16))
    names = {"0.weight": "embed.weight"}
    parameters = [(names.get(name, name), parameter) for name, parameter in model.named_parameters()]
    optimizer, tokens = MuonAdamW(parameters), torch.arange(16)

    def step(by: MuonAdamW) -> float:
        loss = torch.nn.functional.cross_entropy(model(tokens), tokens)
        by.zero_grad()
        loss.backward()
        by.step(0.03)
        return float(loss.detach())

    losses = [step(optimizer) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    resumed = MuonAdamW(parameters)
    resumed.load_state_dict(state)
    step(resumed)
    after = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(weights)
    step(optimizer)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, after[name])
