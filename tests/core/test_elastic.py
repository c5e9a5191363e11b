"""One trunk, many schedules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import h2ot_core
from h2ot_core.elastic import Elastic

SIZES: dict[str, Any] = {"frames": 27, "width": 16, "depth": 5, "heads": 2, "joints": 5}


def _trunk(seed: int = 0) -> Elastic:
    torch.manual_seed(seed)
    trunk = Elastic("mixste", **SIZES)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return trunk.eval()


def _input(frames: int = 27) -> Tensor:
    return torch.rand(2, frames, 5, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1


MEMBERS: tuple[dict[str, Any], ...] = (
    {"scheme": "none"},
    {"scheme": "none", "frames": 9},
    {"scheme": "h2ot"},
    {"scheme": "hot"},
    {"scheme": "hot", "r": [1], "b": [3]},
    {"scheme": "h2ot", "r": [13, 9, 5], "b": [0, 2, 4]},
    {"scheme": "none", "prune": "tpa", "recover": "tra", "r": [9], "b": [3]},
    {"scheme": "none", "prune": "tpmo", "recover": "tri", "r": [9], "b": [3]},
    {"scheme": "tpm"},
)


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_a_member_runs_in_the_trunk_as_it_does_on_its_own(member: dict[str, Any]) -> None:
    trunk = _trunk()
    x = _input(member.get("frames", 27))
    torch.testing.assert_close(trunk(x, **member), trunk.build(**member)(x), rtol=0, atol=0)


def test_the_unpruned_member_has_the_trunks_weights_and_none_else() -> None:
    trunk = _trunk()
    weights = trunk.build(scheme="none").state_dict()
    own = trunk.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in weights.items())
    assert {name for name in own if name not in weights} == {
        name for name in own if name.startswith("recoverer.")
    }


def test_shorter_windows_take_the_centre_of_the_temporal_embedding() -> None:
    trunk = _trunk()
    short = trunk.build(scheme="none", frames=9).state_dict()
    name = "host.temporal_pos"
    assert torch.equal(short[name], trunk.state_dict()[name][:, 9:18])


def test_the_embedding_of_kept_tokens_is_resampled_from_end_to_end() -> None:
    trunk = _trunk()
    table = trunk.state_dict()["recoverer.pos_embed_token"]
    with torch.no_grad():
        table.copy_(torch.arange(27.0)[None, :, None].expand(1, 27, 16))
    kept = trunk.build(scheme="hot", r=[14], b=[3]).state_dict()["recoverer.pos_embed_token"]
    # 14 places over 27 tokens: every second one.
    torch.testing.assert_close(kept[0, :, 0], torch.arange(0.0, 27.0, 2.0))


def test_members_learn_into_the_trunk() -> None:
    trunk = _trunk().train()
    trunk(_input(), scheme="hot").square().mean().backward()
    assert all(p.grad is not None for p in trunk.parameters())
    trunk.zero_grad()
    trunk(_input(9), scheme="none", frames=9).square().mean().backward()
    gradient = trunk.host.temporal_pos.grad
    assert gradient is not None
    assert gradient[:, 9:18].abs().min() > 0
    assert gradient[:, :9].abs().max() == 0
    assert gradient[:, 18:].abs().max() == 0


def test_a_built_member_is_its_own() -> None:
    trunk = _trunk()
    member = trunk.build(scheme="none")
    before = trunk.state_dict()["host.spatial_pos"].clone()
    with torch.no_grad():
        for parameter in member.parameters():
            parameter.zero_()
    assert torch.equal(trunk.state_dict()["host.spatial_pos"], before)


def test_a_trunk_of_motionbert_is_cut_likewise() -> None:
    trunk = Elastic("motionbert", frames=9, width=16, heads=2, depth=2, joints=5)
    assert trunk(torch.zeros(1, 3, 5, 3), scheme="none", frames=3).shape == (1, 3, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 81, "scheme": "none"}, "embeddings for 27 frames, got frames = 81"),
        ({"width": 32}, "fixes width"),
        ({"host": "motionbert"}, "fixes host"),
    ],
)
def test_what_the_trunk_fixes_cannot_be_asked_for(arguments: Any, message: str) -> None:
    with pytest.raises(h2ot_core.ConfigError, match=message):
        _trunk().build(**arguments)


def test_a_host_with_other_weights_per_frame_is_refused() -> None:
    with pytest.raises(h2ot_core.ConfigError, match="cannot be a trunk"):
        Elastic("motionagformer", frames=27, width=16, heads=2, depth=2)
