"""The training losses of the hosts, on predicted and target poses (B, F, J, 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from h2ot_core.errors import unknown

# Human3.6M joint order; outer joints count more (HoT, main_mixste.py).
MIXSTE_WEIGHTS = (1, 1, 2.5, 2.5, 1, 2.5, 2.5, 1, 1, 1, 1.5, 1.5, 4, 4, 1.5, 4, 4)


def mpjpe_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of joints: the loss of MHFormer, and of hosts without one of their own."""
    return torch.mean((predicted - target).norm(dim=-1))


def mixste_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Weighted MPJPE + 0.5 temporal consistency + 2 velocity error (paper, Section 4.2).

    Weights apply to 17 joints; other joint counts are weighted equally. A single frame has no
    velocity and only the first term. In metres.
    """
    joints = predicted.shape[-2]
    weight = predicted.new_tensor(MIXSTE_WEIGHTS if joints == 17 else [1.0] * joints)
    loss = (weight * (predicted - target).norm(dim=-1)).mean()
    if predicted.shape[1] < 2:
        return loss
    consistency = (weight.unsqueeze(-1) * predicted.diff(dim=1).square()).mean()
    return loss + 0.5 * consistency + 2.0 * _velocity(predicted, target)


def motionbert_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """MPJPE + 0.5 scale-free MPJPE + 20 velocity error (MotionBERT, MotionAGFormer)."""
    scale = (predicted * target).sum(dim=(-2, -1), keepdim=True)
    scale = scale / predicted.square().sum(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    loss = mpjpe_loss(predicted, target) + 0.5 * mpjpe_loss(scale * predicted, target)
    if predicted.shape[1] < 2:
        return loss
    return loss + 20.0 * _velocity(predicted, target)


def _velocity(predicted: Tensor, target: Tensor) -> Tensor:
    return torch.mean((predicted.diff(dim=1) - target.diff(dim=1)).norm(dim=-1))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mpjpe": mpjpe_loss,
    "mixste": mixste_loss,
    "motionbert": motionbert_loss,
}
"""Losses by name; a host names its own as ``AbstractHost.loss``."""


def loss_of(host: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that a host was published with, (B, F, J, 3) twice to a scalar.

    Raises:
        ConfigError: for an unknown host, or one that names a loss that is not in ``LOSSES``.
    """
    from h2ot_core.hosts import HOSTS  # hosts are layers, which training alone brings together

    if host not in HOSTS:
        raise unknown("host", host, HOSTS)
    name = HOSTS[host].loss
    if name not in LOSSES:
        raise unknown(f"loss of {host}", name, LOSSES)
    return LOSSES[name]
