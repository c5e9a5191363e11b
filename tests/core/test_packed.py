"""Weights laid out beforehand."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import h2ot_core
from h2ot_core import kernels
from h2ot_core.packed import Packed

SIZES: dict[str, dict[str, Any]] = {
    "mixste": {"frames": 27, "r": [13, 9], "b": [0, 1], "prune": "tps", "recover": "tri"},
    "motionbert": {"frames": 27, "r": [9], "b": [1], "prune": "tpa", "recover": "tra"},
    "motionagformer": {"frames": 27, "r": [9], "b": [1], "prune": "tpc", "recover": "tra"},
    "mhformer": {"frames": 36, "r": [9], "b": [1], "prune": "tpmo", "pipeline": "seq2frame"},
}

pytestmark = pytest.mark.skipif(
    not kernels.supported_types(), reason="this build of PyTorch has no oneDNN operators"
)


def _model(host: str) -> h2ot_core.Hourglass:
    torch.manual_seed(0)
    depth = 3 if host == "mhformer" else 2
    model = h2ot_core.build(host, width=32, depth=depth, heads=2, **SIZES[host])
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _input(model: h2ot_core.Hourglass, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, model.config.frames, 17, model.host.channels)
    return torch.randn(shape, generator=generator)


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each layer that asked for its weights packed, whether it got them."""
    found: list[bool] = []
    of = kernels.PackedWeights.of

    def listened(self: kernels.PackedWeights, *arguments: Any) -> Any:
        answer = of(self, *arguments)
        found.append(answer is not None)
        return answer

    monkeypatch.setattr(kernels.PackedWeights, "of", listened)
    return found


@pytest.mark.parametrize("dtype", kernels.supported_types(), ids=str)
@pytest.mark.parametrize("host", SIZES)
def test_outputs_are_the_models(host: str, dtype: torch.dtype, packs: list[bool]) -> None:
    model = _model(host).to(dtype)
    packed = Packed(model)
    assert packed.config == model.config
    tolerance = {"rtol": 0.0, "atol": 1e-5 if dtype == torch.float32 else 0.05}
    for turn, batch in enumerate((2, 2, 3)):
        x = _input(model, batch).to(dtype)
        with torch.inference_mode():
            wanted = model.run(x)
        assert not packs
        largest = float(wanted.poses.abs().max())
        found = packed.run(x)
        torch.testing.assert_close(found.poses / largest, wanted.poses / largest, **tolerance)
        assert all(map(torch.equal, *([s.index for s in o.selections] for o in (found, wanted))))
        assert torch.equal(packed(x), found.poses)
        # All but MHFormer's last layer, whose weights a norm has gone into.
        assert (sum(packs) > 20) == (turn < 2)
        packs.clear()


def test_a_change_of_the_model_does_not_reach_it() -> None:
    model = _model("mixste").train()
    x = _input(model, 1)
    packed = Packed(model)
    before = packed(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.mul_(2)
    assert torch.equal(packed(x), before)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_other_models_and_threads_take_their_own_weights(packs: list[bool]) -> None:
    model, packed = _model("mixste"), Packed(_model("mixste"))
    x = _input(model, 1)
    packed(x)
    with torch.inference_mode():
        before = model(x)
        with kernels.packing(packed._weights):
            packs.clear()
            assert torch.equal(model(x), before)
            assert packs
            assert not any(packs)
            packs.clear()
            thread = threading.Thread(target=lambda: model(x))
            thread.start()
            thread.join()
    assert not packs


@pytest.mark.parametrize("watched", ["att_spatial", "graph_spatial", None])
def test_weights_that_two_layers_share_are_scaled_for_each(watched: str | None) -> None:
    """A block whose mixer is listened to multiplies by its layer scale afterwards."""
    model = _model("motionagformer")
    first = model.host.layers[0]
    first.graph_spatial.mlp = first.att_spatial.mlp
    if watched is not None:
        getattr(first, watched).mixer.register_forward_hook(lambda *_: None)
    packed, x = Packed(model), _input(model, 2)
    with torch.inference_mode():
        wanted = model(x)
    largest = float(wanted.abs().max())
    torch.testing.assert_close(packed(x) / largest, wanted / largest, rtol=0.0, atol=1e-5)


def test_what_it_does_not_take() -> None:
    model = _model("mixste")
    with pytest.raises(h2ot_core.ConfigError, match=r"torch.float64 on cpu; move it with model.to"):
        Packed(model.double())
    first = next(model.float().parameters())
    first.data = first.data.half()
    with pytest.raises(h2ot_core.ConfigError, match=r"got torch.float16 on cpu, torch.float32 on"):
        Packed(model)
    with pytest.raises(h2ot_core.ConfigError, match=r"made by h2ot_core.build, got Linear"):
        Packed(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(h2ot_core.InputError, match="poses must have shape"):
        Packed(_model("mixste"))(torch.zeros(1, 5, 17, 2))


def test_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "supported_types", tuple)
    with pytest.raises(h2ot_core.ConfigError, match="lacks oneDNN"):
        Packed(_model("mixste"))
