"""Every source of data by one short text: `h36m:FOLDER`, `motion:FILE`, `generated:SEED`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bench.data.detector import DetectorNoise
from bench.data.motion_takes import motion_data
from bench.data.takes import DataError, DataSet
from bench.data.windows import MotionSource

Opener = Callable[[str, str | None, DetectorNoise | None], DataSet]


def open_data(
    spec: str, *, detector: str | None = None, noise: DetectorNoise | None = None
) -> DataSet:
    """Open a source of takes.

    Args:
        spec: `SCHEME:REST`, one of
            `motion:FILE`, an open motion file (`bench.data.motion`);
            `generated`, `generated:SEED` or `generated:SEED:FRAMES`, generated motion.
        detector: for motion "gt" (exact 2D) instead of the noise model.
        noise: model of detector error, for motion and generated motion; None means its defaults.

    Raises:
        DataError: an unknown scheme, or an argument that the source does not take.
        MotionError: the motion file cannot be used.
    """
    scheme, _, rest = spec.partition(":")
    if scheme not in SOURCES:
        raise DataError(
            f"unknown source of data {spec!r}; expected one of "
            f"{', '.join(form for form, _ in SOURCES.values())}"
        )
    return SOURCES[scheme][1](rest, detector, noise)


def _motion(rest: str, detector: str | None, noise: DetectorNoise | None) -> DataSet:
    _needs("motion:FILE", rest)
    _one_of("motion", detector, ("gt",))
    _either(detector, noise)
    return motion_data(MotionSource.from_file(rest, noise=noise), detector=detector)


def _generated(rest: str, detector: str | None, noise: DetectorNoise | None) -> DataSet:
    _one_of("generated", detector, ("gt",))
    _either(detector, noise)
    seed, _, frames = rest.partition(":")
    try:
        numbers = int(seed or 0), int(frames or 1215)
    except ValueError:
        raise DataError(
            f"generated:{rest} has no whole number as its seed; expected generated, generated:SEED "
            "or generated:SEED:FRAMES, such as generated:0"
        ) from None
    source = MotionSource.generated(numbers[0], frames=numbers[1], noise=noise)
    return motion_data(source, detector=detector)


def _needs(form: str, rest: str) -> None:
    """Raise unless a path was given."""
    if not rest:
        scheme, _, what = form.partition(":")
        raise DataError(f"{scheme} was given without a {what.lower()}; expected {form}")


def _one_of(scheme: str, detector: str | None, detectors: tuple[str, ...]) -> None:
    """Raise unless the source has the detector."""
    if detector is not None and detector not in detectors:
        raise DataError(
            f"{scheme} has no 2D joints of detector {detector!r}; expected "
            f"{' or '.join(map(repr, detectors))}, or none for the source's own"
        )


def _either(detector: str | None, noise: DetectorNoise | None) -> None:
    """Raise if both exact 2D and a noise model are asked for."""
    if detector is not None and noise is not None:
        raise DataError(
            f"both detector {detector!r} and a noise model were given; exact 2D has no noise, so "
            "give one of them"
        )


SOURCES: Final[dict[str, tuple[str, Opener]]] = {
    "motion": ("motion:FILE", _motion),
    "generated": ("generated[:SEED]", _generated),
}
"""Scheme to how it is written and what opens it; a new source is one row."""
