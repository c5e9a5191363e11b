"""Weight files of our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import h2ot_core
from h2ot_core import CheckpointError, Hourglass, weights
from h2ot_core.elastic import Elastic

Small = Callable[..., Hourglass]


@pytest.mark.parametrize("scheme", ["none", "hot", "h2ot", "tpm"])
def test_a_model_comes_back_as_it_was(small: Small, tmp_path: Path, scheme: str) -> None:
    model = small(scheme=scheme)
    weights.save(model, tmp_path / "model.safetensors", {"step": 3})
    back = weights.load(tmp_path / "model.safetensors")
    assert back.config.arguments == model.config.arguments
    assert not back.training
    x = torch.rand(1, 27, 5, 2)
    assert torch.equal(model(x), back(x))
    assert weights.read_card(tmp_path / "model.safetensors")["step"] == 3


def test_a_trunk_comes_back_as_it_was(tmp_path: Path) -> None:
    trunk = Elastic("mixste", frames=27, width=16, depth=5, heads=2, joints=5).eval()
    weights.save(trunk, tmp_path / "trunk.safetensors")
    back = weights.load_trunk(tmp_path / "trunk.safetensors")
    x = torch.rand(1, 27, 5, 2)
    assert torch.equal(trunk(x, scheme="hot"), back(x, scheme="hot"))


def test_model_and_trunk_are_not_taken_for_each_other(small: Small, tmp_path: Path) -> None:
    weights.save(small(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="one model, not a trunk"):
        weights.load_trunk(tmp_path / "model.safetensors")
    trunk = Elastic("mixste", frames=27, width=16, depth=2, heads=2, joints=5)
    weights.save(trunk, tmp_path / "trunk.safetensors")
    with pytest.raises(CheckpointError, match="holds a trunk"):
        weights.load(tmp_path / "trunk.safetensors")


def test_what_cannot_be_read_is_said(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="no weight file"):
        weights.load(path)
    weights.save(small(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        weights.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="of format 'none'"):
        weights.load(path)
    header = {"format": weights.FORMAT, "kind": "model", "arguments": "{", "card": "{}"}
    save_file({"a": torch.zeros(1)}, path, header)
    with pytest.raises(CheckpointError, match=r"header .* is damaged"):
        weights.load(path)
    header["arguments"] = json.dumps({"host": "mixste", "width": 16, "heads": 2})
    save_file({"a": torch.zeros(1)}, path, header)
    with pytest.raises(CheckpointError, match="does not fit the model that its header describes"):
        weights.load(path)


def test_writing_replaces_at_once_and_leaves_no_draft(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    weights.save(small(0), path)
    weights.save(small(1), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert torch.equal(
        weights.load(path)(torch.ones(1, 27, 5, 2)), small(1)(torch.ones(1, 27, 5, 2))
    )


@pytest.mark.parametrize("host", ["mixste", "motionbert", "motionagformer", "mhformer"])
def test_published_files_come_back_as_they_were(tmp_path: Path, host: str) -> None:
    model = h2ot_core.build(host, frames=9, width=16, heads=2, depth=3, scheme="none").eval()
    h2ot_core.checkpoints.save_published(model, tmp_path / "model.pth")
    other = h2ot_core.build(host, frames=9, width=16, heads=2, depth=3, scheme="none").eval()
    h2ot_core.load_published(other, tmp_path / "model.pth")
    own, back = model.state_dict(), other.state_dict()
    assert own.keys() == back.keys()
    assert all(torch.equal(own[name], back[name]) for name in own)
