"""Shares of a forward pass."""

from __future__ import annotations

import re

import pytest
import torch

import h2ot_core
from bench.cli import main
from bench.scenarios.profile import kind_of, shares

TINY = "--frames 9 --option width=16 --option depth=2 --option heads=2".split()


def test_operators_have_kinds() -> None:
    assert kind_of("aten::addmm") == "product"
    assert kind_of("aten::_scaled_dot_product_flash_attention_for_cpu") == "attention"
    assert kind_of("aten::native_layer_norm") == "rest"


def test_shares_add_up() -> None:
    model = h2ot_core.build("mixste", scheme="none", frames=9, width=16, depth=2, heads=2).eval()
    found = shares(model, torch.zeros(1, 9, 17, 2), passes=2)
    assert found.products + found.attention + found.rest == pytest.approx(1)
    assert min(found.products, found.attention, found.rest) > 0
    assert sum(share for _, _, share in found.operators) == pytest.approx(1)
    assert "aten::native_layer_norm" in {name for _, name, _ in found.operators}
    assert found.seconds > 0


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--scheme", "none", "--passes", "1", *TINY]) == 0
    told = capsys.readouterr().out
    assert "mixste-f9-depth=2-heads=2-width=16, cpu, batch 1" in told
    parts = re.search(r"products (\S+)%, attention (\S+)%, everything else (\S+)%", told)
    assert parts
    assert sum(map(float, parts.groups())) == pytest.approx(100, abs=0.2)
    with pytest.raises(SystemExit, match="2"):
        main(["profile", "--passes", "0", *TINY])
    assert "--passes: must be at least 1" in capsys.readouterr().err
