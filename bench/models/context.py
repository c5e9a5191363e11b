"""What a metric may use beside the case."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.windows import MotionSource
from bench.models.trunk import Trunk


@dataclass(frozen=True)
class Context:
    """What a metric may use beside the case.

    Attributes:
        motion: where windows come from.
        trunk: trained weights, where accuracy is measured.
        view_frames: length of the views that accuracy is measured on.
        view_limit: most such views; None for all.
    """

    motion: MotionSource
    trunk: Trunk | None = None
    view_frames: int = 243
    view_limit: int | None = None
