"""MPI-INF-3DHP in the npz files of P-STMO and MotionAGFormer (protocols.md, section 3)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.data.cameras import normalise
from bench.data.readers.gaps import SplitReader, finite_frames, floats, relative
from bench.data.readers.safe_pickle import load_npz
from bench.data.sequences import DataError, DataSet, Mask, MotionSequence, Split
from h2ot_core.metrics import MPI_INF_3DHP_JOINTS

FILES: Final[dict[Split, str]] = {"train": "data_train_3dhp.npz", "test": "data_test_3dhp.npz"}
LEFT: Final = (5, 6, 7, 11, 12, 13)
RIGHT: Final = (2, 3, 4, 8, 9, 10)
ROOT: Final = 14
TEST: Final = ("TS1", "TS2", "TS3", "TS4", "TS5", "TS6")
"""The test sequences, in the order of the published table."""

_SIZE: Final = (2048, 2048)
_OUTDOOR: Final = dict.fromkeys(("TS5", "TS6"), (1920, 1080))
_FPS: Final = 25.0
_TO_MM: Final = 1000.0
_EXPECTED: Final = "the MPI-INF-3DHP npz files of P-STMO (common/data_to_npz_3dhp.py makes them)"


def load_3dhp(folder: str | os.PathLike[str], detector: str = "gt") -> DataSet:
    """Read MPI-INF-3DHP with ground-truth 2D, in its own order of 17 joints (pelvis 14).

    Train sequences are "S1 Seq1/0": a recording as one of its cameras sees it. Test sequences are
    "TS1" to "TS6", of which only the frames marked valid count. Errors are averaged by sequence,
    so that `MotionSequence.action` is its name; PCK and AUC are reported, and every error also as
    the mean over all frames. Windows are "strict": P-STMO and MotionAGFormer (which puts out all
    frames) take one window per valid frame ("centre"), D3DP nearly lifts each frame once.

    Published codes differ in the unit of training (metres, or pixels by 2/2048); the choice here is
    metres: targets are the file's millimetres relative to the pelvis / 1000, and `to_mm` is 1000
    throughout. Which 3D the file holds (`univ_annot3` as published) is for the one who made it.

    2D joints that are not finite are interpolated; frames of which the 3D is not finite do not
    count (`valid`). The frame rate is that of most sequences; some were filmed at 50 Hz.

    Args:
        folder: has `data_train_3dhp.npz` and `data_test_3dhp.npz`; one will do for its split.
        detector: the file has ground-truth 2D, "gt", alone.

    Raises:
        DataError: there is neither file, or, on loading a split: its file is
            missing or damaged, or has arrays of another shape or length.
    """
    folder = Path(folder)
    if not any((folder / file).is_file() for file in FILES.values()):
        raise DataError(
            f"{folder}: has neither {' nor '.join(FILES.values())}; expected {_EXPECTED}, so "
            "check the folder"
        )
    notes: list[str] = []
    return DataSet(
        name="3dhp",
        description="MPI-INF-3DHP, recorded motion; 2D joints: ground truth.",
        detector=detector,
        pck_joints=MPI_INF_3DHP_JOINTS,
        fps=_FPS,
        load=lambda split: _Reader(folder / FILES[split], split, notes).sequences(),
        left=LEFT,
        right=RIGHT,
        root=ROOT,
        actions=TEST,
        notes=notes,
    )


class _Reader(SplitReader):
    """Reads the file of one split."""

    expected = _EXPECTED

    def __init__(self, file: Path, split: Split, notes: list[str]) -> None:
        super().__init__(split, notes)
        self.file = file

    def sequences(self) -> Sequence[MotionSequence]:
        """Return all sequences of the file and note what was done to them."""
        data = load_npz(self.file, ["data"], what=_EXPECTED)["data"]
        self.dictionary(self.file, data, "the sequences")
        read = self._train if self.split == "train" else self._test
        sequences = list(read(data))
        absent = [name for name in TEST if name not in data]
        if self.split == "test" and absent:
            self.note(f"no sequence {', '.join(absent)}")
        self.note_gaps()
        return sequences

    def _train(self, data: Mapping[str, Any]) -> Iterator[MotionSequence]:
        """Yield every recording by every camera."""
        for name, entry in data.items():
            if not isinstance(entry, list | tuple | np.ndarray) or len(entry) != 2:
                raise DataError(
                    f"{self.file}: {name!r} holds {type(entry).__name__}, expected a list of its "
                    f"cameras and its frame rate; expected {_EXPECTED}"
                )
            cameras = self.dictionary(self.file, entry[0], f"the cameras of {name!r}")
            for camera, arrays in cameras.items():
                yield self._sequence(f"{name}/{camera}", str(name), str(camera), arrays)

    def _test(self, data: Mapping[str, Any]) -> Iterator[MotionSequence]:
        """Yield every sequence; each has one camera."""
        for name, arrays in data.items():
            if name not in TEST:
                raise DataError(
                    f"{self.file}: unknown test sequence {name!r}; expected {', '.join(TEST)} "
                    f"({_EXPECTED})"
                )
            yield self._sequence(str(name), str(name), "0", arrays)

    def _sequence(self, name: str, clip: str, camera: str, arrays: Any) -> MotionSequence:
        """Put the arrays of one sequence and camera together."""
        pixels = self._joints(name, arrays, "data_2d", 2)
        poses = self._joints(name, arrays, "data_3d", 3)
        if len(pixels) != len(poses):
            raise DataError(
                f"{self.file}: {name!r} has {len(pixels)} frames of 2D joints, but {len(poses)} of "
                "3D; expected as many, so prepare the file again"
            )
        width, height = _OUTDOOR.get(clip, _SIZE)
        joints = self.joints(pixels, name)
        finite = finite_frames(poses, name)
        self.excluded += int((~finite).sum())
        truth = relative(poses, finite, ROOT)
        return MotionSequence(
            name=name,
            clip=clip,
            subject=clip.split(" ")[0],
            action=clip,
            camera=camera,
            input=normalise(joints, width, height).astype(np.float32),
            target=(truth / _TO_MM).astype(np.float32),
            truth_mm=truth.astype(np.float32),
            to_mm=np.full(len(poses), _TO_MM, dtype=np.float32),
            valid=finite & self._valid(name, arrays, len(poses))
            if self.split == "test"
            else finite,
        )

    def _joints(self, name: str, arrays: Any, key: str, axes: int) -> npt.NDArray[np.float64]:
        """Return the joints of a sequence as (T, 17, axes)."""
        values = floats(self.entry(self.file, arrays, key, repr(name)))
        if values.ndim != 3 or values.shape[1:] != (17, axes) or not len(values):
            raise DataError(
                f"{self.file}: {key!r} of {name!r} has shape {values.shape}, expected (frames, 17, "
                f"{axes}); expected {_EXPECTED}"
            )
        return values

    def _valid(self, name: str, arrays: Any, frames: int) -> Mask:
        """Return which frames the test set counts."""
        valid = np.asarray(self.entry(self.file, arrays, "valid", repr(name)))
        if valid.dtype.kind not in "biuf" or valid.size != frames:
            raise DataError(
                f"{self.file}: 'valid' of {name!r} is {valid.dtype} {valid.shape}, expected one "
                f"number for each of {frames} frames; prepare the file again"
            )
        return np.asarray(valid.ravel() > 0, dtype=np.bool_)
