"""TPC: keep the centres found by density peaks clustering over k nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from h2ot_core import kernels
from h2ot_core.errors import ConfigError
from h2ot_core.prune.base import ScorePruner, Signals
from h2ot_core.schedule import Schedule

# Densities of mutually nearest frames are equal when k = 2, since a frame is its own nearest
# neighbour; the published code breaks the tie with uniform noise of this size.
_NOISE = 1e-6


class ClusterPruner(ScorePruner):
    """Token Pruning Cluster (paper, Section 3.1.1, Eqs. 1 and 2).

    Score = density x distance to the nearest denser frame, on descriptors averaged over the
    streams. Cost: O(B N^2 C).

    Options:
        tpc_k: neighbours that make the density, the frame itself included.
        tpc_seed: seed of the tie-breaking noise. The noise depends on seed, stage and frame
            alone, so a clip's frames do not depend on its batch.
        tpc_max: distance of the densest frame, "global" (largest of the clip, as
            published) or "row" (largest from that frame, as Eq. 2 prints).

    Differences from the published code: seeded noise (theirs is unseeded, in evaluation too), and
    float64 throughout, since float32's rounding of the distances is as large as the noise and
    differs with the batch.
    """

    requires = "keys"
    uses_noise = True
    options: ClassVar[Mapping[str, Any]] = {
        "tpc_k": 2,
        "tpc_seed": 0,
        "tpc_max": ("global", "row"),
    }

    def __init__(self, schedule: Schedule, centre: int | None, **options: Any) -> None:
        super().__init__(schedule, centre)
        self.k: int = options["tpc_k"]
        self.max: str = options["tpc_max"]
        counts = (schedule.frames, *schedule.r)[: schedule.stages]
        if not 1 <= self.k <= min(counts):
            raise ConfigError(
                f"tpc_k must be between 1 and the fewest frames that a stage chooses from, "
                f"{min(counts)}; got {self.k}."
            )
        generator = torch.Generator().manual_seed(options["tpc_seed"])
        device = torch.get_default_device()
        for stage, count in enumerate(counts):
            noise = torch.rand((1, count), generator=generator, device="cpu").to(device)
            self.register_buffer(f"noise_{stage}", noise, persistent=False)

    def score(self, signals: Signals, stage: int) -> Tensor:
        """Score each frame as a cluster centre; (B, N)."""
        assert signals.keys is not None
        keys = signals.keys.double()
        noise = signals.noise
        if noise is None:
            noise = self.get_buffer(f"noise_{stage}")
        quick = kernels.fast_path_applies(signals.keys) and not torch.compiler.is_compiling()
        distance = _distances(keys) if quick else torch.cdist(keys, keys)
        distance = distance / keys.shape[-1] ** 0.5
        nearest = distance.topk(self.k, dim=-1, largest=False, sorted=False).values
        density = nearest.square().mean(dim=-1).neg().exp() + noise.to(keys.dtype) * _NOISE
        furthest = distance.amax(dim=-1, keepdim=True)
        if self.max == "global":
            furthest = furthest.amax(dim=-2, keepdim=True)
        denser = density.unsqueeze(1) > density.unsqueeze(2)
        return torch.where(denser, distance, furthest).amin(dim=-1) * density


def _distances(x: Tensor) -> Tensor:
    """Euclidean distances among the rows of (B, N, C); (B, N, N), no gradients.

    As ``torch.cdist``, which joins squares to the factors of its product first, but in place.
    """
    product = x @ x.mT
    squares = product.diagonal(dim1=1, dim2=2).clone()
    squared = product.mul_(-2).add_(squares.unsqueeze(1)).add_(squares.unsqueeze(2))
    return squared.clamp_min_(0).sqrt_()
