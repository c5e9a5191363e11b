"""Error metrics of 3D poses, as the field publishes them.

All are pure functions of predicted and target poses (..., J, 3) in one unit, which is also the
unit of an error. Poses are compared as they are: make them relative to the root joint before, where
a protocol asks for it. Nothing here is meant to be trained on; see :mod:`h2ot_core.losses`.

With ``reduce=False`` a metric gives one value per frame, which a caller may average by action,
sequence or subject; with ``reduce=True`` the mean over all frames. A frame that is not finite gives
a value that is not finite (in ``pck`` and ``auc``: no correct joint), and harms no other frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from h2ot_core.errors import InputError

PCK_MM = 150.0
"""The usual threshold of PCK, millimetres."""

AUC_MM = tuple(5.0 * step for step in range(31))
"""Thresholds whose PCK the AUC averages, millimetres (MPI-INF-3DHP, mpii_compute_3d_pck.m)."""

MPI_INF_3DHP_JOINTS = tuple(range(14))
"""Joints that PCK and AUC of MPI-INF-3DHP count: all but pelvis, spine and head (14 to 16)."""


def mpjpe(
    predicted: Tensor,
    target: Tensor,
    *,
    joints: Sequence[int] | None = None,
    reduce: bool = True,
) -> Tensor:
    """Mean per-joint position error, "protocol 1": the mean distance of joints.

    Args:
        predicted, target: (..., J, 3), floating point, one unit.
        joints: those that count; None means all.
        reduce: whether to average over frames.

    Returns:
        (...) per frame, or a scalar; in the unit of the poses.

    Raises:
        InputError: if the shapes differ or do not fit, or a joint does not exist.

    Source: VideoPose3D, common/loss.py.
    """
    predicted, target = _checked(predicted, target, joints)
    return _reduced(_distances(predicted, target).mean(dim=-1), reduce)


def p_mpjpe(
    predicted: Tensor,
    target: Tensor,
    *,
    joints: Sequence[int] | None = None,
    reduce: bool = True,
) -> Tensor:
    """MPJPE after aligning every frame, "protocol 2"; see :func:`procrustes`.

    Args, Returns, Raises: as for :func:`mpjpe`. The alignment uses the joints that count.

    Source: VideoPose3D, common/loss.py. HoT writes the mean of a batch to each of its samples
    (common/utils.py), which differs where a batch holds several actions; that is not reproduced.
    """
    predicted, target = _checked(predicted, target, joints)
    aligned = _aligned(predicted.double(), target.double())
    error = _distances(aligned, target.double()).mean(dim=-1)
    return _reduced(error, reduce).to(target.dtype)


def procrustes(predicted: Tensor, target: Tensor) -> Tensor:
    """Move, turn and scale each predicted frame to lie as near its target as possible.

    Least squares over rotations without reflection, scale and translation. Worked in float64. A
    frame whose predicted joints all coincide is moved to the target's mean.

    Args:
        predicted, target: (..., J, 3), floating point.

    Returns:
        (..., J, 3), in the target's type.

    Raises:
        InputError: if the shapes differ or do not fit.

    Source: Umeyama, Least-squares estimation of transformation parameters (1991).
    """
    predicted, target = _checked(predicted, target, None)
    return _aligned(predicted.double(), target.double()).to(target.dtype)


def n_mpjpe(
    predicted: Tensor,
    target: Tensor,
    *,
    joints: Sequence[int] | None = None,
    reduce: bool = True,
) -> Tensor:
    """MPJPE after scaling every frame by its own best factor, without turning or moving it.

    The factor is the least-squares one, <predicted, target> / <predicted, predicted> over the
    joints of one frame (not of a sequence). A frame of zeros keeps its zeros.

    Args, Returns, Raises: as for :func:`mpjpe`.

    Source: MotionAGFormer, loss/pose3d.py (from Rhodin et al., 2018).
    """
    predicted, target = _checked(predicted, target, joints)
    factor = _ratio(
        (predicted * target).sum(dim=(-2, -1), keepdim=True),
        predicted.square().sum(dim=(-2, -1), keepdim=True),
    )
    return _reduced(_distances(factor * predicted, target).mean(dim=-1), reduce)


def mpjve(
    predicted: Tensor,
    target: Tensor,
    *,
    joints: Sequence[int] | None = None,
    reduce: bool = True,
) -> Tensor:
    """Mean per-joint velocity error: mean distance of the first temporal differences.

    Args:
        predicted, target: (..., T, J, 3), floating point, T >= 2 frames in order.
        joints: those that count; None means all.
        reduce: whether to average over the differences.

    Returns:
        (..., T - 1) per pair of neighbouring frames, or a scalar; in the unit of the poses, per
        frame.

    Raises:
        InputError: as for :func:`mpjpe`, or with fewer than two frames.

    Source: MixSTE, common/loss.py; VideoPose3D, common/loss.py.
    """
    predicted, target = _checked(predicted, target, joints)
    if predicted.dim() < 3 or predicted.shape[-3] < 2:
        raise InputError(
            f"a velocity needs at least 2 frames: expected poses (..., T >= 2, J, 3), got "
            f"{tuple(predicted.shape)}."
        )
    error = _distances(predicted.diff(dim=-3), target.diff(dim=-3)).mean(dim=-1)
    return _reduced(error, reduce)


def pck(
    predicted: Tensor,
    target: Tensor,
    *,
    threshold: float = PCK_MM,
    joints: Sequence[int] | None = None,
    reduce: bool = True,
) -> Tensor:
    """Percentage of correct keypoints: joints with an error strictly below a threshold.

    Args:
        predicted, target: (..., J, 3), floating point, one unit.
        threshold: in the unit of the poses; 150 fits millimetres.
        joints: those that count, such as :data:`MPI_INF_3DHP_JOINTS`; None means all.
        reduce: whether to average over frames.

    Returns:
        (...) per frame, or a scalar; percent, 0 to 100.

    Raises:
        InputError: as for :func:`mpjpe`.

    Source: MPI-INF-3DHP, mpii_compute_3d_pck.m (as in P-STMO, 3dhp_test/test_util).
    """
    predicted, target = _checked(predicted, target, joints)
    return _reduced(_correct(_distances(predicted, target), threshold), reduce)


def auc(
    predicted: Tensor,
    target: Tensor,
    *,
    thresholds: Sequence[float] = AUC_MM,
    joints: Sequence[int] | None = None,
    reduce: bool = True,
) -> Tensor:
    """Area under the PCK curve: the mean of :func:`pck` over thresholds.

    Args:
        predicted, target: (..., J, 3), floating point, one unit.
        thresholds: in the unit of the poses; the default, 0, 5, ..., 150, fits millimetres. No
            joint is strictly below 0, so that a perfect pose reaches 30 / 31.
        joints: those that count, such as :data:`MPI_INF_3DHP_JOINTS`; None means all.
        reduce: whether to average over frames.

    Returns:
        (...) per frame, or a scalar; percent, 0 to 100.

    Raises:
        InputError: as for :func:`mpjpe`, or without thresholds.

    Source: MPI-INF-3DHP, mpii_compute_3d_pck.m (as in P-STMO, 3dhp_test/test_util).
    """
    predicted, target = _checked(predicted, target, joints)
    if not thresholds:
        raise InputError("auc needs at least one threshold, got none.")
    distance = _distances(predicted, target)
    total = torch.zeros_like(distance[..., 0])
    for threshold in thresholds:
        total = total + _correct(distance, threshold)
    return _reduced(total / len(thresholds), reduce)


def _checked(
    predicted: Tensor, target: Tensor, joints: Sequence[int] | None
) -> tuple[Tensor, Tensor]:
    """The joints that count, after a look at shapes and types."""
    for name, poses in (("predicted", predicted), ("target", target)):
        if not isinstance(poses, Tensor) or not poses.is_floating_point():
            got = f"a tensor of {poses.dtype}" if isinstance(poses, Tensor) else type(poses)
            raise InputError(f"{name} poses must be a floating-point torch.Tensor, got {got}.")
    if predicted.shape != target.shape:
        raise InputError(
            f"predicted and target poses must have one shape, got {tuple(predicted.shape)} and "
            f"{tuple(target.shape)}; cut or expand one of them."
        )
    if predicted.dim() < 2 or predicted.shape[-1] != 3 or predicted.numel() == 0:
        raise InputError(
            f"poses must have shape (..., joints, 3) and at least one frame and joint, got "
            f"{tuple(predicted.shape)}."
        )
    if joints is None:
        return predicted, target
    chosen, count = list(joints), predicted.shape[-2]
    if not chosen or min(chosen) < 0 or max(chosen) >= count:
        raise InputError(f"joints must name some of 0 to {count - 1}, got {chosen}.")
    return predicted[..., chosen, :], target[..., chosen, :]


def _distances(predicted: Tensor, target: Tensor) -> Tensor:
    return torch.linalg.vector_norm(predicted - target, dim=-1)


def _reduced(per_frame: Tensor, reduce: bool) -> Tensor:
    return per_frame.mean() if reduce else per_frame


def _correct(distance: Tensor, threshold: float) -> Tensor:
    return 100.0 * (distance < threshold).to(distance.dtype).mean(dim=-1)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, 0 where the denominator is 0."""
    zero = denominator == 0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


def _aligned(predicted: Tensor, target: Tensor) -> Tensor:
    """Of float64 poses."""
    centre = target.mean(dim=-2, keepdim=True)
    x = target - centre
    y = predicted - predicted.mean(dim=-2, keepdim=True)
    covariance = y.transpose(-2, -1) @ x
    # The decomposition refuses a whole batch for one value that is not finite; such a frame turns
    # out not finite all the same, through y.
    finite = torch.isfinite(covariance).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    u, s, vh = torch.linalg.svd(torch.where(finite, covariance, 0.0))
    # A reflection would fit better: turn back along the least important axis.
    mirrored = torch.linalg.det(u @ vh) < 0
    sign = torch.ones_like(s)
    sign[..., -1] = torch.where(mirrored, -1.0, 1.0)
    rotation = (u * sign.unsqueeze(-2)) @ vh
    scale = _ratio((s * sign).sum(dim=-1), y.square().sum(dim=(-2, -1)))
    return scale[..., None, None] * (y @ rotation) + centre
