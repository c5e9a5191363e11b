"""Every source of data by one short text: `h36m:FOLDER`, `motion:FILE`, `generated:SEED`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bench.data.motion_takes import motion_data
from bench.data.readers.h36m import load_h36m
from bench.data.readers.mpi_inf_3dhp import load_3dhp
from bench.data.readers.stacked_hourglass import load_sh
from bench.data.synthetic.detector import DetectorNoise
from bench.data.takes import DataError, DataSet
from bench.data.windows import MotionSource

Opener = Callable[[str, str | None, DetectorNoise | None], DataSet]


def open_data(
    spec: str, *, detector: str | None = None, noise: DetectorNoise | None = None
) -> DataSet:
    """Open a source of takes.

    Args:
        spec: `SCHEME:REST`, one of
            `h36m:FOLDER`, Human3.6M in the npz files of VideoPose3D (`readers.h36m`);
            `sh:FILE`, Human3.6M in the pickle of MotionBERT (`readers.stacked_hourglass`);
            `3dhp:FOLDER`, MPI-INF-3DHP in the npz files of P-STMO (`readers.mpi_inf_3dhp`);
            `motion:FILE`, an open motion file (`readers.motion`);
            `generated`, `generated:SEED` or `generated:SEED:FRAMES`, generated motion.
        detector: of the 2D joints: "cpn" (default) or "gt" for h36m, and "gt" (exact 2D instead
            of the noise model) for motion and generated; the others have one.
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


def _h36m(rest: str, detector: str | None, noise: DetectorNoise | None) -> DataSet:
    _needs("h36m:FOLDER", rest)
    _recorded("h36m", noise)
    return load_h36m(rest, detector or "cpn")


def _sh(rest: str, detector: str | None, noise: DetectorNoise | None) -> DataSet:
    _needs("sh:FILE", rest)
    _one_of("sh", detector, ("sh",))
    _recorded("sh", noise)
    return load_sh(rest)


def _3dhp(rest: str, detector: str | None, noise: DetectorNoise | None) -> DataSet:
    _needs("3dhp:FOLDER", rest)
    _one_of("3dhp", detector, ("gt",))
    _recorded("3dhp", noise)
    return load_3dhp(rest)


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


def _recorded(scheme: str, noise: DetectorNoise | None) -> None:
    """Raise if a noise model is given for data that has its own 2D joints."""
    if noise is not None:
        raise DataError(
            f"{scheme} has 2D joints of its own, but a noise model was given; expected none, or "
            "motion:FILE or generated as the source"
        )


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
    "h36m": ("h36m:FOLDER", _h36m),
    "sh": ("sh:FILE", _sh),
    "3dhp": ("3dhp:FOLDER", _3dhp),
    "motion": ("motion:FILE", _motion),
    "generated": ("generated[:SEED]", _generated),
}
"""Scheme to how it is written and what opens it; a new source is one row."""
