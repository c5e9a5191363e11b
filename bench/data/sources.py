"""Open any source of data by one short text: `h36m:FOLDER`, `motion:FILE`, `generated:SEED`."""

from __future__ import annotations

from bench.data.readers import READERS, imported, source_forms
from bench.data.sequences import DataError, DataSet
from bench.data.synthetic.detector import DetectorNoise


def open_data(
    spec: str, *, detector: str | None = None, noise: DetectorNoise | None = None
) -> DataSet:
    """Open a data set.

    Args:
        spec: `SCHEME:PLACE`; the schemes are the keys of :data:`bench.data.readers.READERS`.
        detector: of the 2D joints, one of those of the reader's row; None means its default.
        noise: model of detector error, for simulated detections; None means its defaults.

    Raises:
        DataError: an unknown scheme, no place, or a detector or noise that the source lacks.
        MotionError: the motion file cannot be used.
    """
    scheme, _, place = spec.partition(":")
    if scheme not in READERS:
        raise DataError(f"unknown source of data {spec!r}; expected one of {source_forms()}")
    reader = READERS[scheme]
    if not place and "[" not in reader.form:
        what = reader.form.partition(":")[2].lower()
        raise DataError(f"{scheme} needs a {what}; expected {reader.form}")
    if detector is not None and detector not in reader.detectors:
        known = " or ".join(map(repr, reader.detectors))
        raise DataError(
            f"{scheme} has no 2D joints of detector {detector!r}; expected "
            f"{known + ', or ' if known else ''}none for the source's own"
        )
    if noise is not None and not reader.simulated:
        simulated = " or ".join(row.form for row in READERS.values() if row.simulated)
        raise DataError(
            f"{scheme} has 2D joints of its own, which a noise model cannot change; "
            f"expected none, or {simulated} as the source"
        )
    if noise is not None and detector is not None:
        raise DataError(
            f"detector {detector!r} and a noise model exclude each other, because exact 2D "
            "has no noise; give one of them"
        )
    options = {"detector": detector, "noise": noise}
    chosen = {name: value for name, value in options.items() if value is not None}
    dataset: DataSet = imported(reader.load)(place, **chosen)
    return dataset
