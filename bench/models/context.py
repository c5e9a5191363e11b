"""What a metric may use beside the case."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.windows import MotionSource
from bench.models.supernet import Supernet


@dataclass(frozen=True)
class Context:
    """What a metric may use beside the case.

    Attributes:
        motion: where windows come from.
        supernet: trained weights, where accuracy is measured.
        view_frames: length of the views that accuracy is measured on.
        view_limit: most such views; None for all.
    """

    motion: MotionSource
    supernet: Supernet | None = None
    view_frames: int = 243
    view_limit: int | None = None
