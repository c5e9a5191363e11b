"""The harness where PyTorch lacks a private name."""

from __future__ import annotations

import sys

import pytest
import torch

from bench.metrics import training_memory
from bench.models import torch_private
from bench.records.case import Case
from bench.records.status import excuse

CASE = Case(host="mixste", frames=9, options=(("depth", 1), ("heads", 2), ("width", 16)))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._subclasses.fake_tensor", "FakeTensorMode"),
        ("torch.distributed._tools.mem_tracker", "MemTracker"),
    ],
)
def test_training_memory_is_skipped_and_says_why(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(torch_private.NotApplicable) as caught:
        training_memory.peak(CASE)
    found = excuse(caught.value)
    assert found["status"] == "skipped"
    assert f"torch {torch.__version__} lacks {name}, which the estimate" in found["reason"]


def test_the_tracker_as_it_is_finds_the_same_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    (wanted,) = training_memory.peak(CASE)
    monkeypatch.setattr(torch_private, "_TRACKER_STATE", ("absent",))
    (found,) = training_memory.peak(CASE)
    assert found.values == wanted.values


def test_without_a_sleeping_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cuda, "_sleep")
    with pytest.raises(torch_private.NotApplicable, match=r"lacks torch\.cuda\._sleep"):
        torch_private.cuda_sleep(1)


def test_the_compilers_limit_rises_and_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo.config as config

    before = config.recompile_limit
    with torch_private.recompiling(5):
        assert config.recompile_limit == before + 5
    assert config.recompile_limit == before
    assert issubclass(torch_private.compiler_errors(), RuntimeError)
    monkeypatch.setattr(torch, "_dynamo", None)
    monkeypatch.setattr(torch.compiler, "config", None)
    with torch_private.recompiling(5):
        assert config.recompile_limit == before
    assert torch_private.compiler_errors() is RuntimeError
