"""FN: how noisy the 2D poses of the kept frames are (paper, Table 2)."""

from __future__ import annotations

import numpy as np
import torch

import h2ot_core
from bench.data.windows import batch
from bench.metrics.base import NotApplicable, Reading
from bench.metrics.kept_frames import chosen, learned
from bench.models.context import Context
from bench.records.case import Case

WINDOWS = 240


def measure(case: Case, context: Context) -> list[Reading]:
    """Mean distance in pixels between detected and clean 2D joints over the kept frames.

    One value per window, kept frames and all frames.

    Raises:
        NotApplicable: for pruners whose choice depends on weights.
    """
    if learned(case):
        raise NotApplicable("which frames it keeps depends on weights, and these are not trained")
    windows = context.motion.windows(case.frames, limit=WINDOWS)
    x = torch.from_numpy(batch(windows, h2ot_core.HOSTS[case.host].channels))
    noise = np.stack([w.detected_px - w.clean_px for w in windows])
    distance = torch.from_numpy(np.linalg.norm(noise, axis=-1).mean(axis=-1))  # (W, F)
    everywhere = distance.mean(dim=1)
    kept = everywhere
    if case.prune is not None:
        kept = distance.gather(1, chosen(case, x)).mean(dim=1)
    protocol = {"windows": len(windows), "description": context.motion.description}
    return [
        Reading(metric=metric, unit="px", values=tuple(values.tolist()), protocol=protocol)
        for metric, values in (("frame_noise_px", kept), ("frame_noise_all_px", everywhere))
    ]
