"""MPI-INF-3DHP in the npz files of P-STMO and MotionAGFormer (protocols.md, section 3)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.data.cameras import normalise
from bench.data.readers.gaps import filled, finite_frames
from bench.data.readers.safe_pickle import load_npz
from bench.data.takes import DataError, DataSet, Mask, Split, Take

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


def load_3dhp(folder: str | os.PathLike[str]) -> DataSet:
    """Read MPI-INF-3DHP with ground-truth 2D, in its own order of 17 joints (pelvis 14).

    Train takes are "S1 Seq1/0": a sequence as one of its cameras sees it. Test takes are the
    sequences "TS1" to "TS6", of which only the frames marked valid count. Errors are averaged by
    sequence, so that `Take.action` is its name. Published codes differ in the unit of training
    (metres, or pixels by 2/2048); the choice here is metres: targets are the file's millimetres
    relative to the pelvis / 1000, and `to_mm` is 1000 throughout. Which 3D the file holds
    (`univ_annot3` as published) is for the one who made it.

    2D joints that are not finite are interpolated; frames of which the 3D is not finite do not
    count (`valid`). The frame rate is that of most sequences; some were filmed at 50 Hz.

    Args:
        folder: has `data_train_3dhp.npz` and `data_test_3dhp.npz`; one will do for its split.

    Raises:
        DataError: there is neither file, or, when takes are asked for: the file of the split is
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
        detector="gt",
        protocol="3dhp",
        fps=_FPS,
        load=lambda split: _Reader(folder / FILES[split], split, notes).takes(),
        left=LEFT,
        right=RIGHT,
        root=ROOT,
        actions=TEST,
        notes=notes,
    )


class _Reader:
    """Reads the file of one split."""

    def __init__(self, file: Path, split: Split, notes: list[str]) -> None:
        self.file, self.split, self.notes = file, split, notes
        self.filled = self.not_counted = 0

    def takes(self) -> Sequence[Take]:
        """Return all takes of the file and note what was done to them."""
        data = load_npz(self.file, ["data"], what=_EXPECTED)["data"]
        self._dictionary(data, "sequences")
        read = self._train if self.split == "train" else self._test
        takes = list(read(data))
        absent = [name for name in TEST if name not in data]
        if self.split == "test" and absent:
            self._note(f"no sequence {', '.join(absent)}")
        if self.filled:
            self._note(f"{self.filled} frames with 2D joints that are not finite were interpolated")
        if self.not_counted:
            self._note(f"{self.not_counted} frames with 3D that is not finite do not count")
        return takes

    def _train(self, data: Mapping[str, Any]) -> Iterator[Take]:
        """Give every sequence by every camera."""
        for name, entry in data.items():
            if not isinstance(entry, list | tuple | np.ndarray) or len(entry) != 2:
                raise DataError(
                    f"{self.file}: {name!r} holds {type(entry).__name__}, expected a list of its "
                    f"cameras and its frame rate; expected {_EXPECTED}"
                )
            self._dictionary(entry[0], f"cameras of {name!r}")
            for camera, arrays in entry[0].items():
                yield self._take(f"{name}/{camera}", str(name), str(camera), arrays)

    def _test(self, data: Mapping[str, Any]) -> Iterator[Take]:
        """Give every sequence; each has one camera."""
        for name, arrays in data.items():
            if name not in TEST:
                raise DataError(
                    f"{self.file}: unknown test sequence {name!r}; expected {', '.join(TEST)} "
                    f"({_EXPECTED})"
                )
            yield self._take(str(name), str(name), "0", arrays)

    def _take(self, name: str, clip: str, camera: str, arrays: Any) -> Take:
        """Put the arrays of one sequence and camera together."""
        self._dictionary(arrays, f"arrays of {name!r}")
        pixels = self._floats(name, arrays, "data_2d", 2)
        poses = self._floats(name, arrays, "data_3d", 3)
        if len(pixels) != len(poses):
            raise DataError(
                f"{self.file}: {name!r} has {len(pixels)} frames of 2D joints, but {len(poses)} of "
                "3D; expected as many, so prepare the file again"
            )
        width, height = _OUTDOOR.get(clip, _SIZE)
        joints, missing = filled(pixels, name)
        self.filled += missing
        finite = finite_frames(poses, name)
        valid = finite
        if self.split == "test":
            valid = finite & self._valid(name, arrays, len(poses))
        self.not_counted += int((~finite).sum())
        truth = np.where(finite[:, None, None], poses, 0.0)
        truth -= truth[:, ROOT : ROOT + 1].copy()
        return Take(
            name=name,
            clip=clip,
            subject=clip.split(" ")[0],
            action=clip,
            camera=camera,
            input=normalise(joints, width, height).astype(np.float32),
            target=(truth / _TO_MM).astype(np.float32),
            truth_mm=truth.astype(np.float32),
            to_mm=np.full(len(poses), _TO_MM, dtype=np.float32),
            valid=valid,
        )

    def _floats(
        self, name: str, arrays: Mapping[str, Any], key: str, axes: int
    ) -> npt.NDArray[np.float64]:
        """Return the joints of a sequence as (T, 17, axes)."""
        self._has(name, arrays, key)
        try:
            values = np.asarray(arrays[key], dtype=np.float64)
        except (TypeError, ValueError):
            values = np.zeros(())
        if values.ndim != 3 or values.shape[1:] != (17, axes) or not len(values):
            raise DataError(
                f"{self.file}: {key!r} of {name!r} has shape {values.shape}, expected (frames, 17, "
                f"{axes}); expected {_EXPECTED}"
            )
        return values

    def _valid(self, name: str, arrays: Mapping[str, Any], frames: int) -> Mask:
        """Return which frames the test set counts."""
        self._has(name, arrays, "valid")
        valid = np.asarray(arrays["valid"])
        if valid.dtype.kind not in "biuf" or valid.size != frames:
            raise DataError(
                f"{self.file}: 'valid' of {name!r} is {valid.dtype} {valid.shape}, expected one "
                f"number for each of {frames} frames; prepare the file again"
            )
        return np.asarray(valid.ravel() > 0, dtype=np.bool_)

    def _has(self, name: str, arrays: Mapping[str, Any], key: str) -> None:
        """Raise unless a sequence has an array."""
        if key not in arrays:
            raise DataError(
                f"{self.file}: {name!r} lacks {key!r}; it has {', '.join(map(str, arrays))}; "
                f"expected {_EXPECTED}"
            )

    def _dictionary(self, table: Any, content: str) -> None:
        """Raise unless a part of the file is a dictionary."""
        if not isinstance(table, dict):
            raise DataError(
                f"{self.file}: expected a dictionary with the {content}, got a "
                f"{type(table).__name__}; expected {_EXPECTED}"
            )

    def _note(self, text: str) -> None:
        self.notes.append(f"{self.split}: {text}")
