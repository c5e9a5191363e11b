"""Metrics and losses: recorded values of published code, cases worked out by hand, properties."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from h2ot_core import InputError
from h2ot_core.losses import LOSSES, mixste_loss, motionbert_loss, mpjpe_loss
from h2ot_core.metrics import (
    AUC_MM,
    MPI_INF_3DHP_JOINTS,
    auc,
    mpjpe,
    mpjve,
    n_mpjpe,
    p_mpjpe,
    pck,
    procrustes,
)

METRICS: dict[str, Callable[..., Tensor]] = {
    "mpjpe": mpjpe, "p_mpjpe": p_mpjpe, "n_mpjpe": n_mpjpe, "mpjve": mpjve, "pck": pck, "auc": auc,
}  # fmt: skip
ERRORS = {name: METRICS[name] for name in ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve")}
SEQUENCES = [f"TS{i}" for i in range(1, 7)]
# Columns of the recorded 3DHP values: Head, Neck, Shou, Elbow, Wrist, Hip, Knee, Ankle, Total.
GROUPS = [
    (0,), (1,), (2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13), MPI_INF_3DHP_JOINTS,
]  # fmt: skip


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def rotation(a: float, b: float, c: float) -> Tensor:
    """A proper rotation from three angles."""

    def about(axis: int, angle: float) -> Tensor:
        i, j = [k for k in range(3) if k != axis]
        turn = torch.eye(3, dtype=torch.float64)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        return turn

    return about(0, a) @ about(1, b) @ about(2, c)


# --- published values --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(shared_dir: Path) -> dict[str, NDArray[Any]]:
    with np.load(shared_dir / "parity/public/metrics.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def pair(recorded: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Tensor]:
    return (
        torch.from_numpy(recorded["pred"]).double(),
        torch.from_numpy(recorded["target"]).double(),
    )


def agrees(ours: Tensor, theirs: Any) -> bool:
    return bool(np.allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-13))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("hot_mpjpe", mpjpe),
        ("ag_loss_mpjpe", mpjpe),
        ("ag3dhp_mpjpe_cal", mpjpe),
        ("p_mpjpe", p_mpjpe),
        ("ag_n_mpjpe", n_mpjpe),
        ("hot_mean_velocity", mpjve),
        ("ag_loss_velocity", mpjve),
        ("hot_mpjpe", mpjpe_loss),
        ("hot_mixste_training_loss", mixste_loss),
    ],
)
def test_means_as_published(
    recorded: Mapping[str, NDArray[Any]],
    pair: tuple[Tensor, Tensor],
    name: str,
    metric: Callable[[Tensor, Tensor], Tensor],
) -> None:
    assert agrees(metric(*pair), recorded[name])


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("ag_mpjpe_per_frame", mpjpe),
        ("ag_p_mpjpe_per_frame", p_mpjpe),
        ("hot_p_mpjpe_per_frame", p_mpjpe),
    ],
)
def test_frames_as_published(
    recorded: Mapping[str, NDArray[Any]],
    pair: tuple[Tensor, Tensor],
    name: str,
    metric: Callable[..., Tensor],
) -> None:
    ours = metric(*pair, reduce=False)
    assert ours.shape == (2, 9)
    assert agrees(ours.flatten(), recorded[name])


@pytest.mark.data
def test_velocity_of_one_and_of_concatenated_sequences_as_published(
    recorded: Mapping[str, NDArray[Any]], pair: tuple[Tensor, Tensor]
) -> None:
    predicted, target = pair
    assert agrees(mpjve(predicted[0], target[0]), recorded["vp3d_mean_velocity_error_seq0"])
    ours = mpjve(predicted.flatten(0, 1), target.flatten(0, 1))
    assert agrees(ours, recorded["d3dp_mean_velocity_error_flat"])


@pytest.mark.data
def test_losses_as_published(
    recorded: Mapping[str, NDArray[Any]], pair: tuple[Tensor, Tensor]
) -> None:
    expected = (
        recorded["ag_loss_mpjpe"] + 0.5 * recorded["ag_n_mpjpe"] + 20 * recorded["ag_loss_velocity"]
    )
    assert agrees(motionbert_loss(*pair), expected)
    parts = (
        recorded["hot_weighted_mpjpe"]
        + 0.5 * recorded["hot_temporal_consistency"]
        + 2.0 * recorded["hot_mean_velocity"]
    )
    assert agrees(mixste_loss(*pair), parts)
    for name, loss in LOSSES.items():
        single = loss(*(poses[:, :1] for poses in pair))
        assert torch.isfinite(single), name


def sequence(recorded: Mapping[str, NDArray[Any]], name: str) -> tuple[Tensor, Tensor]:
    valid = torch.from_numpy(recorded[f"dhp_valid_{name}"]) == 1
    return (
        torch.from_numpy(recorded[f"dhp_pred_{name}"])[valid],
        torch.from_numpy(recorded[f"dhp_gt_{name}"])[valid],
    )


@pytest.mark.data
def test_3dhp_per_sequence_as_published(recorded: Mapping[str, NDArray[Any]]) -> None:
    for i, name in enumerate(SEQUENCES):
        predicted, target = sequence(recorded, name)
        assert len(predicted) == recorded["dhp_valid_frames_per_seq"][i]
        assert agrees(mpjpe(predicted, target), recorded["dhp_mpjpe_per_seq"][i])
        for column, joints in enumerate(GROUPS):
            correct = pck(predicted, target, joints=joints)
            assert agrees(correct, recorded["dhp_pck_per_seq"][i, column])
            area = auc(predicted, target, joints=joints)
            assert agrees(area, recorded["dhp_auc_per_seq"][i, column])


@pytest.mark.data
def test_3dhp_over_all_sequences_as_published(recorded: Mapping[str, NDArray[Any]]) -> None:
    pairs = [sequence(recorded, name) for name in SEQUENCES]
    predicted, target = (torch.cat(part) for part in zip(*pairs, strict=True))
    assert agrees(mpjpe(predicted, target), recorded["dhp_mpjpe_all"])
    for metric, name in ((pck, "pck"), (auc, "auc")):
        for column, joints in enumerate(GROUPS):
            value = metric(predicted, target, joints=joints)
            assert agrees(value, recorded[f"dhp_{name}_all"][column])
        joined = metric(predicted, target, joints=MPI_INF_3DHP_JOINTS)
        assert agrees(joined, recorded[f"dhp_{name}_frame_weighted"])
        single = [metric(*one, joints=MPI_INF_3DHP_JOINTS) for one in pairs]
        assert agrees(torch.stack(single).mean(), recorded[f"dhp_{name}_seq_mean"])
    for column, joints in enumerate(GROUPS):  # recorded as shares, not percent
        curve = [pck(predicted, target, threshold=t, joints=joints) / 100 for t in AUC_MM]
        assert agrees(torch.stack(curve), recorded["dhp_pck_curve_all"][column])


# --- by hand -----------------------------------------------------------------------------------


def test_mpjpe_by_hand() -> None:
    target = torch.zeros(2, 2, 3)
    predicted = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]] * 2])
    assert mpjpe(predicted, target, reduce=False).tolist() == [2.5, 1.0]
    assert mpjpe(predicted, target).item() == 1.75
    assert mpjpe(predicted, target, joints=[0], reduce=False).tolist() == [5.0, 1.0]


def test_mpjve_by_hand() -> None:
    target = torch.zeros(3, 1, 3)
    predicted = torch.tensor([[[0.0, 0.0, 0.0]], [[3.0, 4.0, 0.0]], [[3.0, 4.0, 2.0]]])
    assert mpjve(predicted, target, reduce=False).tolist() == [5.0, 2.0]
    assert mpjve(predicted, target).item() == 3.5
    assert mpjve(predicted + 7, target).item() == 3.5


def test_n_mpjpe_scales_each_frame_by_itself() -> None:
    target = drawn(4, 5, 3)
    factors = torch.tensor([0.5, 2.0, -1.0, 10.0]).double().view(4, 1, 1)
    assert n_mpjpe(target * factors, target).item() < 1e-12
    # One factor for the sequence could not undo four.
    assert mpjpe(target * factors, target).item() > 0.1


def test_pck_and_auc_by_hand() -> None:
    target = torch.zeros(1, 4, 3, dtype=torch.float64)
    predicted = target.clone()
    # Exactly at a threshold is not below it.
    predicted[0, :, 0] = torch.tensor([0.0, 149.9, 150.0, 72.0])
    assert pck(predicted, target).item() == 75.0
    assert pck(predicted, target, threshold=72.0).item() == 25.0
    assert pck(predicted, target, joints=[2]).item() == 0.0
    # Thresholds above the errors: 30 (5 to 150), 1 (150), none, and 16 (75 to 150).
    expected = 100 * (30 + 1 + 0 + 16) / (4 * 31)
    assert auc(predicted, target).item() == pytest.approx(expected, rel=1e-14)
    assert auc(target, target).item() == pytest.approx(100 * 30 / 31)


def test_a_mirror_is_not_absorbed() -> None:
    target = drawn(3, 17, 3)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0])
    assert (p_mpjpe(mirrored, target, reduce=False) > 0.1).all()
    turned = target * torch.tensor([-1.0, -1.0, 1.0])
    assert p_mpjpe(turned, target).item() < 1e-12


def test_the_alignment_is_the_best_there_is() -> None:
    predicted, target = drawn(1, 17, 3), drawn(1, 17, 3, seed=1)
    aligned = procrustes(predicted, target)
    best = (aligned - target).square().sum()
    middle = aligned.mean(dim=-2, keepdim=True)
    for axis in range(3):
        for step in (-1e-3, 1e-3):
            turn = rotation(*(step if k == axis else 0.0 for k in range(3)))
            moved = (aligned - middle) @ turn.T + middle
            assert (moved - target).square().sum() >= best
            shifted = aligned.clone()
            shifted[..., axis] += step
            assert (shifted - target).square().sum() >= best
    for factor in (0.999, 1.001):
        scaled = (aligned - middle) * factor + middle
        assert (scaled - target).square().sum() >= best


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_frames_give_numbers(dtype: torch.dtype) -> None:
    body = drawn(1, 17, 3).to(dtype)
    point = torch.full((1, 17, 3), 2.0, dtype=dtype)
    line = torch.linspace(0, 1, 17, dtype=dtype).view(1, 17, 1) * torch.ones(3, dtype=dtype)
    plane = body * torch.tensor([1.0, 1.0, 0.0], dtype=dtype)
    nothing = torch.zeros_like(body)
    shapes = {"body": body, "point": point, "line": line, "plane": plane, "nothing": nothing}
    for a, predicted in shapes.items():
        for b, target in shapes.items():
            for metric in METRICS.values():
                if metric is mpjve:
                    continue
                value = metric(predicted, target)
                assert torch.isfinite(value), (a, b, metric)
                assert value.dtype == dtype
    # The best that a point can do is to lie at the mean.
    expected = mpjpe(body.mean(dim=-2, keepdim=True).expand_as(body), body)
    assert torch.allclose(p_mpjpe(point, body), expected)
    assert p_mpjpe(body, point).item() == pytest.approx(0, abs=1e-6)
    assert p_mpjpe(line * 3 + 1, line).item() == pytest.approx(0, abs=1e-5)


def test_a_frame_that_is_not_finite_harms_no_other() -> None:
    predicted, target = drawn(4, 17, 3), drawn(4, 17, 3, seed=1)
    broken = predicted.clone()
    broken[1, 3, 0], broken[2, 0, 1] = math.nan, math.inf
    for metric in (mpjpe, p_mpjpe, n_mpjpe):
        value, whole = metric(broken, target, reduce=False), metric(predicted, target, reduce=False)
        assert torch.equal(value[[0, 3]], whole[[0, 3]])
        assert not torch.isfinite(value[[1, 2]]).any()


def test_float32_is_enough_in_millimetres() -> None:
    predicted, target = drawn(50, 17, 3, scale=500), drawn(50, 17, 3, seed=1, scale=500)
    for metric in METRICS.values():
        single = metric(predicted.float(), target.float())
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(metric(predicted, target).item(), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_leading_axes_are_kept(metric: Callable[..., Tensor]) -> None:
    predicted, target = drawn(2, 3, 6, 5, 3), drawn(2, 3, 6, 5, 3, seed=1)
    frames = 5 if metric is mpjve else 6
    value = metric(predicted, target, reduce=False)
    assert value.shape == (2, 3, frames)
    assert torch.allclose(value[1, 2], metric(predicted[1, 2], target[1, 2], reduce=False))
    assert torch.allclose(metric(predicted, target), value.mean())
    chosen = metric(predicted, target, joints=[3, 1], reduce=False)
    assert torch.allclose(
        chosen, metric(predicted[..., [1, 3], :], target[..., [1, 3], :], reduce=False)
    )


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize(
    ("predicted", "target", "words"),
    [
        (torch.zeros(4, 5, 3), torch.zeros(4, 6, 3), "one shape"),
        (torch.zeros(4, 5, 2), torch.zeros(4, 5, 2), "joints, 3"),
        (torch.zeros(3), torch.zeros(3), "joints, 3"),
        (torch.zeros(0, 5, 3), torch.zeros(0, 5, 3), "at least one frame"),
        (torch.zeros(4, 5, 3).long(), torch.zeros(4, 5, 3), "int64"),
        (torch.zeros(4, 5, 3), [[0.0]], "list"),
    ],
)
def test_bad_poses_are_refused(
    metric: Callable[..., Tensor], predicted: Any, target: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        metric(predicted, target)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("joints", [[], [5], [-1], [0, 17]])
def test_joints_that_are_not_there_are_refused(
    metric: Callable[..., Tensor], joints: list[int]
) -> None:
    with pytest.raises(InputError, match="joints must name some of 0 to 4"):
        metric(torch.zeros(4, 5, 3), torch.zeros(4, 5, 3), joints=joints)


def test_further_refusals() -> None:
    with pytest.raises(InputError, match="at least 2 frames"):
        mpjve(torch.zeros(1, 5, 3), torch.zeros(1, 5, 3))
    with pytest.raises(InputError, match="threshold"):
        auc(torch.zeros(1, 5, 3), torch.zeros(1, 5, 3), thresholds=())


# --- properties --------------------------------------------------------------------------------

seeds = st.integers(0, 2**16)
angles = st.floats(-math.pi, math.pi)
shifts = st.floats(-1000, 1000)


@given(seeds, angles, angles, angles, st.floats(0.01, 100), shifts, shifts, shifts)
def test_the_aligned_error_does_not_change_under_similarity(
    seed: int, a: float, b: float, c: float, scale: float, x: float, y: float, z: float
) -> None:
    predicted, target = drawn(2, 17, 3, seed=seed), drawn(2, 17, 3, seed=seed + 1)
    moved = scale * predicted @ rotation(a, b, c).T + torch.tensor([x, y, z]).double()
    before = p_mpjpe(predicted, target, reduce=False)
    assert torch.allclose(p_mpjpe(moved, target, reduce=False), before, rtol=1e-6)
    # Turning both keeps it, scaling the target scales it.
    turned = scale * target @ rotation(a, b, c).T
    assert torch.allclose(p_mpjpe(predicted, turned, reduce=False), scale * before, rtol=1e-6)


@given(seeds)
def test_bounds(seed: int) -> None:
    predicted, target = drawn(4, 17, 3, seed=seed), drawn(4, 17, 3, seed=seed + 1)
    for metric in ERRORS.values():
        assert metric(predicted, target).item() >= 0
        assert metric(target, target).item() == pytest.approx(0, abs=1e-9)
    # Mean squares, unlike mean distances, can only shrink with more freedom.
    aligned = (procrustes(predicted, target) - target).square().sum(dim=(-2, -1))
    assert (aligned <= (predicted - target).square().sum(dim=(-2, -1)) + 1e-9).all()
    values = [pck(predicted, target, threshold=t).item() for t in (0.0, 0.5, 1.0, 2.0, 5.0)]
    assert values == sorted(values)
    assert 0 <= values[0] <= values[-1] <= 100
    thresholds = (0.5, 1.0, 2.0)
    area = auc(predicted, target, thresholds=thresholds).item()
    assert area == pytest.approx(sum(values[1:4]) / 3)


@given(seeds, st.floats(0.01, 100))
def test_errors_scale_with_the_unit(seed: int, scale: float) -> None:
    predicted, target = drawn(4, 17, 3, seed=seed), drawn(4, 17, 3, seed=seed + 1)
    for metric in ERRORS.values():
        value = metric(scale * predicted, scale * target)
        assert torch.allclose(value, scale * metric(predicted, target), rtol=1e-8)
    ours = pck(scale * predicted, scale * target, threshold=scale)
    assert ours.item() == pytest.approx(pck(predicted, target, threshold=1.0).item(), abs=1.5)
