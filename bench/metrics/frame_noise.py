"""FN: how noisy the 2D poses of the kept frames are (paper, Table 2)."""

from __future__ import annotations

import numpy as np
import torch

import h2ot_core
from bench.data.windows import batch
from bench.metrics.base import NotApplicable, Reading
from bench.models.context import Context
from bench.records.case import Case
from h2ot_core import PRUNERS

WINDOWS = 240
# The choice of these pruners depends on weights, which mean nothing before training.
_LEARNED = ("keys", "attention")


def measure(case: Case, context: Context) -> list[Reading]:
    """Mean distance in pixels between detected and clean 2D joints over the kept frames.

    The case's own schedule runs in a narrow copy of the host, since the choice depends on the
    input alone. One value per window, kept frames and all frames.

    Raises:
        NotApplicable: for pruners whose choice depends on weights.
    """
    if case.prune is not None and PRUNERS[case.prune].requires in _LEARNED:
        raise NotApplicable("which frames it keeps depends on weights, and these are not trained")
    windows = context.motion.windows(case.frames, limit=WINDOWS)
    x = torch.from_numpy(batch(windows, h2ot_core.HOSTS[case.host].channels))
    noise = np.stack([w.detected_px - w.clean_px for w in windows])
    distance = torch.from_numpy(np.linalg.norm(noise, axis=-1).mean(axis=-1))  # (W, F)
    everywhere = distance.mean(dim=1)
    kept = everywhere
    if case.prune is not None:
        kept = _kept(case, x).gather(distance).mean(dim=1)
    protocol = {"windows": len(windows), "description": context.motion.description}
    return [
        Reading(metric=metric, unit="px", values=tuple(values.tolist()), protocol=protocol)
        for metric, values in (("frame_noise_px", kept), ("frame_noise_all_px", everywhere))
    ]


def _kept(case: Case, x: torch.Tensor) -> h2ot_core.Selection:
    """The frames that the last stage keeps, from a model too narrow to cost anything."""
    narrow = {**case.build_arguments(), "width": 4, "heads": 1, "mlp_hidden": 4}
    model = h2ot_core.build(**narrow).eval()
    with torch.inference_mode():
        if model.pruner is not None and model.pruner.fixed() is not None:
            x = x[:1]  # the same frames for every window
        return model.run(x).selections[-1]
