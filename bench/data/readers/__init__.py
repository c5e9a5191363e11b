"""Readers of files: data sets, keypoints and recorded motion.

A reader is one file here and one row in :data:`READERS` (data sets, opened by
:func:`bench.data.sources.open_data`) or :data:`KEYPOINT_READERS` (keypoints, opened by
:func:`bench.data.readers.keypoints.load_keypoints`). A plug-in adds its row to the same
dictionaries when it is imported.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bench.data.readers.keypoints import RawKeypoints
    from bench.data.sequences import DataSet


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One kind of data source, written SCHEME:PLACE, where the scheme is the row's key.

    Attributes:
        form: how a source is written, for help texts: "h36m:FOLDER", or "generated[:SEED]" where
            the place may be left out.
        about: what it reads, for help texts.
        load: called as load(place), with `detector=` and `noise=` only where the user chose one;
            returns a :class:`bench.data.sequences.DataSet`, whose fields say how it is evaluated.
            A text "module:function" is imported at first use.
        detectors: values of `detector` that `load` accepts.
        simulated: whether the 2D joints are simulated, so that `load` accepts `noise`, a
            :class:`bench.data.synthetic.detector.DetectorNoise`.
    """

    form: str
    about: str
    load: Callable[..., DataSet] | str
    detectors: tuple[str, ...] = ()
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class KeypointReader:
    """One format of keypoint files.

    Attributes:
        about: what it reads, for help texts.
        accepts: called with the path and the first 6 bytes of the file; whether this format is it.
            Formats are asked from the last row of the table to the first.
        load: called with the path and the number of a person, or None; returns a
            :class:`bench.data.readers.keypoints.RawKeypoints`. A text "module:function" is
            imported at first use.
    """

    about: str
    accepts: Callable[[Path, bytes], bool]
    load: Callable[[Path, int | None], RawKeypoints] | str


def imported(load: Callable[..., Any] | str) -> Callable[..., Any]:
    """The function of a row."""
    return pkgutil.resolve_name(load) if isinstance(load, str) else load


READERS: Final[dict[str, Reader]] = {
    "h36m": Reader(
        form="h36m:FOLDER",
        about="Human3.6M in the npz files of VideoPose3D",
        load="bench.data.readers.h36m:load_h36m",
        detectors=("cpn", "gt"),
    ),
    "sh": Reader(
        form="sh:FILE",
        about="Human3.6M in the pickle of MotionBERT",
        load="bench.data.readers.stacked_hourglass:load_sh",
        detectors=("sh",),
    ),
    "3dhp": Reader(
        form="3dhp:FOLDER",
        about="MPI-INF-3DHP in the npz files of P-STMO",
        load="bench.data.readers.mpi_inf_3dhp:load_3dhp",
        detectors=("gt",),
    ),
    "motion": Reader(
        form="motion:FILE",
        about="an open motion file",
        load="bench.data.motion_sequences:load_motion_file",
        detectors=("gt",),
        simulated=True,
    ),
    "generated": Reader(
        form="generated[:SEED]",
        about="generated motion",
        load="bench.data.motion_sequences:load_generated",
        detectors=("gt",),
        simulated=True,
    ),
}
"""Scheme to reader. Detector "gt" is exact 2D."""

KEYPOINT_READERS: Final[dict[str, KeypointReader]] = {
    "coco": KeypointReader(
        about="COCO results or a COCO data set as JSON",
        accepts=lambda path, head: True,  # it reports what the file holds instead
        load="bench.data.readers.keypoints_coco:read_json",
    ),
    "npz": KeypointReader(
        about="an npz with 'keypoints' (frames, 17, 2 or 3) in pixels, Human3.6M joints unless "
        "'skeleton' is 'coco'",
        accepts=lambda path, head: head.startswith(b"PK"),
        load="bench.data.readers.keypoints_npz:read_npz",
    ),
}
"""Name to format of keypoint files."""


def source_forms() -> str:
    """How sources are written, for help texts and messages."""
    *forms, last = (reader.form for reader in READERS.values())
    return f"{', '.join(forms)} or {last}"
