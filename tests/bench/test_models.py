"""The model of a case, as every measurement builds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import h2ot_core
from bench.models import inputs
from bench.models.build import measured_model
from bench.records.case import Case
from bench.records.status import NotApplicable
from h2ot_core import weights
from h2ot_core.checkpoints import published_names

CASE = Case(
    host="mixste", frames=27, prune="tps", recover="tri", r=(9,), b=(1,),
    options=(("depth", 3), ("heads", 2), ("width", 16)),
)  # fmt: skip


def test_mode_and_dtype() -> None:
    half = replace(CASE, dtype="bfloat16")
    model = measured_model(half)
    assert not any(module.training for module in model.modules())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    trained = measured_model(half, training=True)
    assert all(module.training for module in trained.modules())
    assert {p.dtype for p in trained.parameters()} == {torch.float32}


def test_initial_weights_are_those_of_seed_0_and_the_callers_draw_is_left_alone() -> None:
    torch.manual_seed(0)
    by_hand = h2ot_core.build(**CASE.build_arguments()).state_dict()
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    found = measured_model(CASE).state_dict()
    assert torch.equal(torch.rand(1), before)
    assert all(torch.equal(found[name], value) for name, value in by_hand.items())


def test_weights_by_the_rule_and_of_a_file(tmp_path: Path) -> None:
    model = measured_model(CASE, weights="rule")
    own, rule = model.state_dict(), inputs.weights(model)
    for theirs, ours in published_names(model).items():
        assert torch.equal(own[ours], rule[theirs])
    path = tmp_path / "model.safetensors"
    weights.save(model, path, {})
    loaded = measured_model(CASE, weights=path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in own.items())


def test_input_is_searched_on_a_cpu() -> None:
    x = torch.full((1, 27, 17, 2), torch.nan)
    with pytest.raises(h2ot_core.InputError, match="NaN"):
        measured_model(CASE)(x)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(NotApplicable, match="no CUDA device"):
        measured_model(replace(CASE, device="cuda"))
