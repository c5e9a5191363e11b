"""TRI against numpy.interp and torch's resizing, TRA against plain sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from h2ot_core import ConfigError, Hourglass, Schedule, Selection, build
from h2ot_core.recover import RECOVERERS, AttentionRecoverer, InterpolationRecoverer
from h2ot_core.selection import bracket

Build = Callable[..., Hourglass]
Clips = Callable[..., Tensor]


def schedule(frames: int, keep: int) -> Schedule:
    return Schedule(frames, (keep,), (0,), 1)


def interpolation(frames: int, keep: int, **options: Any) -> InterpolationRecoverer:
    """As ``build`` would make it, with defaults for what is not given."""
    defaults = InterpolationRecoverer.options.items()
    plain = {name: d[0] if isinstance(d, tuple) else d for name, d in defaults}
    return InterpolationRecoverer(schedule(frames, keep), 8, 1, **{**plain, **options})


def interpolated(
    x: Tensor, index: Tensor, frames: int, targets: int | None = None
) -> NDArray[np.float64]:
    """numpy's interpolation of (B, K, J, C), coordinate by coordinate; it holds the ends."""
    batch, _, joints, width = x.shape
    t = np.linspace(0, frames - 1, targets or frames)
    y = np.empty((batch, len(t), joints, width))
    for row in range(batch):
        at = index[row if len(index) > 1 else 0].numpy()
        for place in np.ndindex(joints, width):
            y[row, :, *place] = np.interp(t, at, x[row, :, *place].numpy())
    return y


@st.composite
def kept_frames(draw: st.DrawFn) -> tuple[Tensor, int]:
    """One or three rows of kept frames, with or without the ends, and F."""
    frames = draw(st.integers(2, 40))
    keep = draw(st.integers(1, frames - 1))
    rows = st.lists(st.integers(0, frames - 1), min_size=keep, max_size=keep, unique=True)
    count = draw(st.sampled_from([1, 3]))
    return torch.tensor([sorted(draw(rows)) for _ in range(count)]), frames


def values(keep: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(keep)
    return torch.randn((3, keep, 2, 3), generator=generator, dtype=dtype)


@given(kept_frames())
def test_positions_against_numpy(kept: tuple[Tensor, int]) -> None:
    index, frames = kept
    x = values(index.shape[1], torch.float64)
    y = interpolation(frames, index.shape[1])(x, Selection(index, frames))
    np.testing.assert_allclose(y.numpy(), interpolated(x, index, frames), rtol=0, atol=1e-12)


@given(kept_frames())
def test_kept_frames_come_back_to_the_bit(kept: tuple[Tensor, int]) -> None:
    index, frames = kept
    x = values(index.shape[1], torch.float32)
    selection = Selection(index, frames)
    y = interpolation(frames, index.shape[1])(x, selection)
    assert torch.equal(selection.gather(y), x)
    for row, at in enumerate(index.expand(3, -1).tolist()):
        assert torch.equal(y[row, : at[0]], x[row, :1].expand(at[0], -1, -1))
        assert torch.equal(y[row, at[-1] :], x[row, -1:].expand(frames - at[-1], -1, -1))


@given(st.integers(2, 60), st.data())
def test_equidistant_against_resizing(frames: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, frames - 1))
    x = values(keep, torch.float64)
    index = torch.arange(keep).unsqueeze(0)  # this mode does not look at it
    y = interpolation(frames, keep, tri_mode="equidistant")(x, Selection(index, frames))
    series = x.permute(0, 2, 3, 1).flatten(1, 2)
    resized = torch.nn.functional.interpolate(series, frames, mode="linear", align_corners=True)
    expected = resized.unflatten(1, (2, 3)).permute(0, 3, 1, 2)
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)


def test_motion_at_constant_speed_is_recovered() -> None:
    frames, index = 27, torch.tensor([[0, 1, 5, 12, 13, 20, 26]])
    t = torch.arange(frames, dtype=torch.float32).reshape(1, -1, 1, 1)
    moving = 0.3 + t * torch.tensor([0.5, -0.125, 0.01])
    selection = Selection(index, frames)
    y = interpolation(frames, 7)(selection.gather(moving), selection)
    assert torch.allclose(y, moving, rtol=1e-6, atol=1e-6)
    even = interpolation(frames, 7, tri_mode="equidistant")(selection.gather(moving), selection)
    assert not torch.allclose(even, moving, atol=0.1)  # it moves what is not on an even grid


def test_interpolation_has_no_weights_and_a_gradient() -> None:
    recoverer = interpolation(6, 3)
    assert not list(recoverer.parameters())
    selection = Selection(torch.tensor([[1, 2, 5]]), 6)
    x = torch.zeros(1, 3, 1, 1, requires_grad=True)
    recoverer(x, selection).sum().backward()
    assert x.grad is not None
    # Frame 0 holds frame 1; frames 3 and 4 are 2/3 + 1/3 of frame 2 and the rest of frame 5.
    assert x.grad.flatten().tolist() == pytest.approx([2.0, 2.0, 2.0])


@pytest.mark.parametrize("prune", ["tps", "tpmo"])
def test_poses_are_interpolated_after_the_head(small: Build, clips: Clips, prune: str) -> None:
    model = small(prune=prune).double()
    with torch.no_grad():
        out = model.run(clips().double())
    expected = interpolated(out.kept, out.selections[-1].index, 27)
    np.testing.assert_allclose(out.poses.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("prune", ["tps", "tpmo"])
def test_tokens_are_interpolated_before_the_head(small: Build, clips: Clips, prune: str) -> None:
    model = small(prune=prune, tri_where="tokens").double()
    seen: dict[str, Tensor] = {}
    model.recoverer.register_forward_pre_hook(lambda _, args: seen.update(before=args[0]))
    model.host.head_layers.register_forward_pre_hook(lambda _, args: seen.update(after=args[0]))
    with torch.no_grad():
        out = model.run(clips().double())
    assert seen["before"].shape == (2, 9, 5, 16)
    expected = interpolated(seen["before"], out.selections[-1].index, 27)
    np.testing.assert_allclose(seen["after"].numpy(), expected, rtol=0, atol=1e-12)
    # Not the same as interpolating poses: the head normalises.
    poses = interpolated(out.kept, out.selections[-1].index, 27)
    assert np.abs(out.poses.numpy() - poses).max() > 1e-6


@given(kept_frames(), st.data())
def test_fewer_frames_against_numpy(kept: tuple[Tensor, int], data: st.DataObject) -> None:
    """f frames spread evenly over the F, between the frames of the video too."""
    index, frames = kept
    frames += 1  # F = 2 has no odd f between its ends
    targets = 3 if frames == 3 else 2 * data.draw(st.integers(1, (frames - 1) // 2)) + 1
    x = values(index.shape[1], torch.float64)
    recoverer = interpolation(frames, index.shape[1], tri_frames=targets)
    expected = interpolated(x, index, frames, targets)
    for known in (None, bracket(index, frames)):  # neighbours of all F frames are of no use here
        y = recoverer(x, Selection(index, frames, known))
        np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["positions", "equidistant"])
@pytest.mark.parametrize("targets", [3, 9, 27])
def test_the_centre_among_fewer_frames(small: Build, clips: Clips, targets: int, mode: str) -> None:
    """It is one of them, and kept: its pose is the head's, whatever f."""
    options = {"pipeline": "seq2frame", "tri_frames": targets, "tri_mode": mode}
    out = small(scheme="h2ot", **options).run(clips())
    centre = out.selections[-1].index[0].tolist().index(13)
    assert out.poses.shape == (2, 1, 5, 3)
    assert torch.equal(out.poses[:, 0], out.kept[:, centre])


def test_fewer_frames_between_tokens(small: Build, clips: Clips) -> None:
    """The poses at the kept frames are the head's, though not all are among those recovered."""
    options = {"pipeline": "seq2frame", "tri_where": "tokens", "tri_frames": 5}
    model, tokens = small(scheme="h2ot", **options), []
    assert model.recoverer is not None
    model.recoverer.register_forward_pre_hook(lambda _, args: tokens.append(args[0]))
    out = model.run(clips())
    assert out.kept.shape == (2, 9, 5, 3)
    assert torch.equal(out.kept, model.host.head(tokens[0]))
    centre = out.selections[-1].index[0].tolist().index(13)
    assert torch.allclose(out.poses[:, 0], out.kept[:, centre], atol=1e-6)


@pytest.mark.parametrize("targets", [2, 4, 1, -3, 29])
def test_numbers_of_frames_without_a_centre(small: Build, targets: int) -> None:
    with pytest.raises(ConfigError, match=f"between 3 and the 27 input frames, got {targets}"):
        small(pipeline="seq2frame", tri_frames=targets)


def test_seq2seq_recovers_every_frame(small: Build) -> None:
    with pytest.raises(ConfigError, match=r"seq2seq returns all 27 frames.*got 9"):
        small(tri_frames=9)
    assert small(tri_frames=27).recoverer.frames == 27


@pytest.mark.parametrize("mode", ["positions", "equidistant"])
def test_interpolation_stays_on_the_device_of_its_input(mode: str) -> None:
    """On one without values, so that nothing may come from elsewhere."""
    index = torch.zeros(2, 4, dtype=torch.int64, device="meta")
    x = torch.zeros(2, 4, 5, 3, device="meta")
    assert interpolation(9, 4, tri_mode=mode)(x, Selection(index, 9)).shape == (2, 9, 5, 3)


@pytest.mark.parametrize("recover", RECOVERERS)
def test_every_recoverer_knows_its_schedule(small: Build, recover: str) -> None:
    model = small(prune="tps", recover=recover)
    assert model.recoverer is not None
    assert (model.recoverer.schedule, model.recoverer.frames) == (model.schedule, 27)


# --- TRA


def test_attention_recovery_projects_as_its_host_does() -> None:
    """With biases, but for MotionAGFormer, whose attention has none of queries, keys and values."""
    sizes: dict[str, Any] = {"scheme": "hot", "frames": 27, "width": 8, "heads": 1, "b": 1}
    made = [build(host, depth=2, **sizes).recoverer for host in ("mixste", "motionagformer")]
    made.append(AttentionRecoverer(schedule(9, 4), 8, 1))
    biases = [
        {name for name, _ in one.cross_attention.named_parameters() if name.endswith("bias")}
        for one in made
    ]
    assert biases[1] == {"proj.bias"}
    assert biases[0] == biases[2] == {f"linear_{part}.bias" for part in "qkv"} | {"proj.bias"}


def cross_attention(recoverer: AttentionRecoverer, x: Tensor) -> Tensor:
    """x_token + proj(softmax(q k / sqrt d) v), head by head (Eq. 5)."""
    layers = recoverer.cross_attention
    token = recoverer.x_token[0]
    q, k, v = layers.linear_q(token), layers.linear_k(x), layers.linear_v(x)
    mixed = []
    for part in range(layers.heads):
        d = token.shape[1] // layers.heads
        cut = slice(part * d, (part + 1) * d)
        logits = torch.einsum("fd,bksd->bsfk", q[:, cut], k[..., cut]) / math.sqrt(d)
        mixed.append(torch.einsum("bsfk,bksd->bfsd", logits.softmax(dim=-1), v[..., cut]))
    return token.unsqueeze(1) + layers.proj(torch.cat(mixed, dim=-1))


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_recovery_against_einsum(heads: int) -> None:
    torch.manual_seed(0)
    recoverer = AttentionRecoverer(schedule(9, 4), 8, heads).double()
    torch.nn.init.normal_(recoverer.x_token)
    x = torch.randn(3, 4, 5, 8, dtype=torch.float64)
    y = recoverer(x, Selection(torch.tensor([[0, 2, 5, 8]]), 9))
    assert y.shape == (3, 9, 5, 8)
    assert torch.allclose(y, cross_attention(recoverer, x), rtol=1e-10, atol=1e-12)


def test_attention_recovery_starts_from_zero_tokens(clips: Clips) -> None:
    """Untrained, all frames ask the same question and get the same answer."""
    recoverer = AttentionRecoverer(schedule(9, 4), 8, 2)
    assert not recoverer.x_token.any()
    assert not recoverer.pos_embed_token.any()
    y = recoverer(torch.randn(2, 4, 5, 8), Selection(torch.tensor([[0, 2, 5, 8]]), 9))
    assert torch.allclose(y, y[:, :1].expand_as(y), atol=1e-6)
    assert y.abs().max() > 0.01


def test_token_embedding_is_added_once_after_the_last_stage(small: Build, clips: Clips) -> None:
    model = small(prune="tps", recover="tra", r=(13, 9), b=(1, 3))
    entered: list[Tensor] = []
    for block in (1, 3):
        model.host.spatial_blocks[block].register_forward_pre_hook(
            lambda _, args: entered.append(args[0].detach())
        )
    with torch.no_grad():
        model(clips())
        model.recoverer.pos_embed_token.add_(torch.arange(9.0).reshape(1, 9, 1))
        model(clips())
    before, after = entered[:2], entered[2:]
    assert torch.equal(after[0], before[0])
    added = (after[1] - before[1]).mean(dim=(0, 2, 3))
    assert added.tolist() == pytest.approx(list(range(9)), abs=1e-5)


@pytest.mark.parametrize(("r", "millions"), [(81, 35.00), (121, 35.02), (15, 34.97)])
def test_published_parameter_counts(r: int, millions: float) -> None:
    with torch.device("meta"):
        model = build("mixste", scheme="hot", r=r)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions
