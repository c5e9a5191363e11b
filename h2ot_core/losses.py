"""The training losses of the hosts, on predicted and target poses (B, F, J, 3) in metres."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Human3.6M joint order; outer joints count more (HoT, main_mixste.py).
MIXSTE_WEIGHTS = (1, 1, 2.5, 2.5, 1, 2.5, 2.5, 1, 1, 1, 1.5, 1.5, 4, 4, 1.5, 4, 4)


def mixste_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Weighted MPJPE + 0.5 temporal consistency + 2 velocity error (paper, Section 4.2).

    Weights apply to 17 joints; other joint counts are weighted equally. A single frame has no
    velocity and only the first term.
    """
    joints = predicted.shape[-2]
    weight = predicted.new_tensor(MIXSTE_WEIGHTS if joints == 17 else [1.0] * joints)
    loss = (weight * (predicted - target).norm(dim=-1)).mean()
    if predicted.shape[1] < 2:
        return loss
    moved, should = predicted.diff(dim=1), target.diff(dim=1)
    consistency = (weight.unsqueeze(-1) * moved.square()).mean()
    velocity = torch.mean((moved - should).norm(dim=-1))
    return loss + 0.5 * consistency + 2.0 * velocity


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mixste": mixste_loss}
"""Host to the loss it was published with."""
