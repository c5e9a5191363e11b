"""A stated model of the error of a 2D keypoint detector."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_SIGMA_PX: Final = (
    *(4.3, 4.5, 5.2, 6.9, 4.5, 5.2, 6.9),  # hips, knees, feet
    *(4.0, 3.5, 3.7, 4.0),  # spine, thorax, neck, head
    *(4.2, 5.7, 7.4, 4.2, 5.7, 7.4),  # shoulders, elbows, wrists
)


@dataclass(frozen=True, kw_only=True)
class DetectorNoise:
    """Detector error in pixels that does not depend on how fast the person moves.

    Two parts are added to the true pixels of each joint. Jitter: Gaussian, per-joint standard
    deviation in x and y, first-order autoregressive in time. Misses: now and then a joint jumps
    away by one offset for a few frames, in a random direction and with a length drawn from a
    Pareto law, whose tail is heavy.

    The defaults are calibrated to, not measured on, a detector: their mean Euclidean error over
    joints and frames is 6.61 pixels, the value that the H2OT paper prints in Table 2 for all
    frames and that protocols.md, section 6 (FN), reads as pixels on 1000 x 1000 images. How it
    spreads over joints and time is this model's choice: the torso is sharper than the extremities.

    Attributes:
        sigma_px: standard deviation of the jitter in x and in y, one per joint.
        correlation: jitter's correlation between neighbouring frames, in [0, 1), at 50 Hz.
        miss_rate: chance per joint and frame that a miss begins.
        miss_frames: longest miss; lengths from 1 to this are equally likely.
        miss_px: shortest offset of a miss.
        miss_tail: exponent of the Pareto law of the offsets, above 1; at most 2 makes the
            variance infinite.

    Raises:
        ValueError: a parameter is out of range.
    """

    sigma_px: tuple[float, ...] = _SIGMA_PX
    correlation: float = 0.8
    miss_rate: float = 0.001
    miss_frames: int = 8
    miss_px: float = 30.0
    miss_tail: float = 3.0

    def __post_init__(self) -> None:
        if len(self.sigma_px) != 17 or min(self.sigma_px) < 0:
            raise ValueError(
                f"sigma_px has {len(self.sigma_px)} values, the smallest "
                f"{min(self.sigma_px, default=math.nan)}; expected 17, none below 0"
            )
        if not 0 <= self.correlation < 1:
            raise ValueError(f"correlation is {self.correlation}; expected 0 <= correlation < 1")
        if not 0 <= self.miss_rate <= 1 or self.miss_frames < 1:
            raise ValueError(
                f"miss_rate is {self.miss_rate} and miss_frames {self.miss_frames}; expected a "
                "chance between 0 and 1, and at least 1 frame"
            )
        if self.miss_px < 0 or self.miss_tail <= 1:
            raise ValueError(
                f"miss_px is {self.miss_px} and miss_tail {self.miss_tail}; expected at least 0, "
                "and above 1"
            )

    def detect(
        self, pixels: npt.NDArray[np.floating[Any]], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Return what the detector reports.

        Args:
            pixels: (T, 17, 2) true pixels.
            rng: stream of random numbers; equal streams give equal errors, whatever the pixels.

        Returns:
            (T, 17, 2) pixels, float64.

        Raises:
            ValueError: `pixels` has another shape.
        """
        if pixels.ndim != 3 or pixels.shape[1:] != (17, 2):
            raise ValueError(f"pixels have shape {pixels.shape}; expected (frames, 17, 2)")
        return pixels + self._jitter(len(pixels), rng) + self._misses(len(pixels), rng)

    def describe(self) -> str:
        """Return the one line that reports print about this model."""
        low, high = min(self.sigma_px), max(self.sigma_px)
        return (
            f"modelled 2D detector: Gaussian error of {low:.1f} to {high:.1f} px per axis and "
            f"joint, correlation {self.correlation:g} between frames, and misses of at least "
            f"{self.miss_px:g} px that begin with chance {self.miss_rate:g} per joint and frame "
            f"and last 1 to {self.miss_frames} frames; independent of the motion"
        )

    @property
    def tag(self) -> str:
        """Short text for record keys; differs whenever a parameter differs."""
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        mean = math.sqrt(math.pi / 2) * sum(self.sigma_px) / 17
        return f"jitter{mean:.1f}px-{digest}"

    def _jitter(self, frames: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw the autoregressive part, stationary from the first frame on."""
        noise = rng.standard_normal((frames, 17, 2))
        noise[1:] *= math.sqrt(1.0 - self.correlation**2)
        # x_t = a x_(t-1) + e_t, summed by doubling: after step n each frame holds 2^n terms.
        reach, weight = 1, self.correlation
        while reach < frames and weight > 1e-12:
            noise[reach:] = noise[reach:] + weight * noise[:-reach]
            reach, weight = 2 * reach, weight * weight
        return noise * _column(self.sigma_px)

    def _misses(self, frames: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw the jumps; misses that overlap add up."""
        begins, joints = np.nonzero(rng.random((frames, 17)) < self.miss_rate)
        lasts = rng.integers(1, self.miss_frames + 1, len(begins))
        angle = 2 * np.pi * rng.random(len(begins))
        # 1 - random() is in (0, 1], so that the length is finite.
        length = self.miss_px * (1.0 - rng.random(len(begins))) ** (-1.0 / self.miss_tail)
        offset = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        jumps = np.zeros((frames, 17, 2))
        for begin, joint, last, jump in zip(begins, joints, lasts, offset, strict=True):
            jumps[begin : begin + last, joint] += jump
        return jumps


def _column(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return one value per joint, shaped to scale (T, 17, 2)."""
    return np.array(values, dtype=np.float64)[:, None]
