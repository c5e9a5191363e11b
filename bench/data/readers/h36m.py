"""Human3.6M in the npz files of VideoPose3D (protocols.md, section 1)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.data.cameras import H36M_CAMERAS, Camera, normalise, world_to_camera
from bench.data.readers.gaps import SplitReader, finite_frames, floats, relative
from bench.data.readers.safe_pickle import load_npz
from bench.data.sequences import DataError, DataSet, MotionSequence, Split
from bench.data.skeleton import LEFT, RIGHT

Real = npt.NDArray[np.float64]

POSES: Final = "data_3d_h36m.npz"
JOINTS: Final = {"cpn": "data_2d_h36m_cpn_ft_h36m_dbb.npz", "gt": "data_2d_h36m_gt.npz"}
SUBJECTS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("S1", "S5", "S6", "S7", "S8"),
    "test": ("S9", "S11"),
}
ACTIONS: Final = tuple(
    "Directions Discussion Eating Greeting Phoning Photo Posing Purchases Sitting SittingDown "
    "Smoking Waiting WalkDog Walking WalkTogether".split()
)
"""The 15 actions in the order of the published tables."""

USED: Final = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Of the 32 joints of the data set, the 17 that are used."""

_CORRUPT: Final = ("S11", "Directions")  # its video is damaged; the published file is without it
_OTHER_NAMES: Final = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
_FPS: Final = 50.0
_TO_MM: Final = 1000.0
_EXPECTED: Final = "the Human3.6M npz files of VideoPose3D (its DATASETS.md says how to make them)"


def load_h36m(folder: str | os.PathLike[str], detector: str = "cpn") -> DataSet:
    """Read Human3.6M in the npz protocol of VideoPose3D, MixSTE and MHFormer.

    The 3D joints (world, metres) are turned into each camera's frame and made relative to the
    pelvis; the 2D joints (pixels) are normalised by the image width. Sequences are every action of
    S1, S5, S6, S7 and S8 (train) or S9 and S11 (test) by four cameras, named
    "S9/Directions 1/54138969". Targets are metres, `to_mm` is 1000 throughout.

    2D sequences longer than their 3D are cut at the end. 2D joints that are not finite are
    interpolated; frames of which the 3D is not finite do not count (`valid`). `DataSet.notes`
    lists each.

    Args:
        folder: has `data_3d_h36m.npz` and the file of 2D joints in `JOINTS`. The 3D may have all
            32 joints or the 17 used ones, in their order.
        detector: "cpn", fine-tuned cascaded pyramid network, or "gt", exact projections.

    Raises:
        DataError: no such detector or file, or, on loading a split: a file is damaged, or a
            subject, action or camera is missing or has arrays of another shape or length.
    """
    if detector not in JOINTS:
        raise DataError(
            f"h36m has no 2D joints of detector {detector!r}; expected one of {', '.join(JOINTS)}"
        )
    files = Path(folder) / POSES, Path(folder) / JOINTS[detector]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: no such file; expected {_EXPECTED}, so check the folder")
    notes: list[str] = []
    return DataSet(
        name=f"h36m:{detector}",
        description="Human3.6M, recorded motion; 2D joints: "
        + {"cpn": "fine-tuned CPN detections.", "gt": "ground truth."}[detector],
        detector=detector,
        windows="hot",
        fps=_FPS,
        load=lambda split: _Reader(*files, split, notes).sequences(),
        actions=ACTIONS,
        notes=notes,
    )


def action_of(sequence: str) -> str:
    """Return the action of a sequence in the published tables: the text before the first space.

    Raises:
        KeyError: it is none of the 15; lists those that are.
    """
    name = sequence.split(" ")[0]
    action = _OTHER_NAMES.get(name, name)
    if action not in ACTIONS:
        raise KeyError(f"no action {name!r}; there are {', '.join(ACTIONS)}")
    return action


class _Reader(SplitReader):
    """Reads one split of a pair of files."""

    expected = _EXPECTED

    def __init__(self, poses: Path, joints: Path, split: Split, notes: list[str]) -> None:
        super().__init__(split, notes)
        self.poses_file, self.joints_file = poses, joints
        self.cut: list[int] = []  # frames cut from each 2D sequence that was too long

    def sequences(self) -> Sequence[MotionSequence]:
        """Return all sequences of the split and note what was done to them."""
        poses = load_npz(self.poses_file, ["positions_3d"], what=_EXPECTED)["positions_3d"]
        found = load_npz(self.joints_file, ["positions_2d", "metadata"], what=_EXPECTED)
        self._check_metadata(found["metadata"])
        sequences = [
            sequence
            for subject in SUBJECTS[self.split]
            for sequence in self._of_subject(
                subject,
                self.entry(self.poses_file, poses, subject, "positions_3d"),
                self.entry(self.joints_file, found["positions_2d"], subject, "positions_2d"),
            )
        ]
        present = {sequence.action for sequence in sequences}
        missing = [action for action in ACTIONS if action not in present]
        if missing:
            self.note(f"no sequence of {', '.join(missing)}")
        if self.cut:
            self.note(
                f"{len(self.cut)} sequences of 2D joints were longer than their 3D, by up to "
                f"{max(self.cut)} frames, and cut at the end"
            )
        self.note_gaps()
        return sequences

    def _of_subject(
        self, subject: str, poses: Mapping[str, Any], joints: Mapping[str, Any]
    ) -> Iterator[MotionSequence]:
        """Yield the sequences of one subject."""
        for file, table in ((self.poses_file, poses), (self.joints_file, joints)):
            self.dictionary(file, table, f"{subject}'s actions")
        for action in joints:
            if action not in poses:
                self.note(f"2D joints of {subject} {action} have no 3D and were left out")
        for action in poses:
            if (subject, action) == _CORRUPT:
                self.note(f"{subject} {action} was left out, because its video is damaged")
                continue
            name = f"{subject}/{action}"
            try:
                merged = action_of(str(action))
            except KeyError as error:
                raise DataError(f"{self.poses_file}: {name}: {error.args[0]}") from None
            views = self.entry(self.joints_file, joints, action, subject)
            cameras = H36M_CAMERAS[subject]
            if not isinstance(views, list | tuple | np.ndarray) or len(views) != len(cameras):
                count = len(views) if hasattr(views, "__len__") else 1
                raise DataError(
                    f"{self.joints_file}: {name} has 2D joints of {count} cameras, expected "
                    f"{len(cameras)}: {', '.join(camera.id for camera in cameras)}; prepare the "
                    "file again"
                )
            world = self._poses(name, poses[action])
            for camera, pixels in zip(cameras, views, strict=True):
                yield self._sequence(name, merged, world, camera, floats(pixels))

    def _poses(self, name: str, array: Any) -> Real:
        """Return the 17 joints of a sequence, (T, 17, 3) metres in the world."""
        world = floats(array)
        if world.ndim != 3 or world.shape[1:] not in ((32, 3), (17, 3)) or not len(world):
            raise DataError(
                f"{self.poses_file}: 3D joints of {name} have shape {world.shape}, expected "
                "(frames, 32, 3) in metres, or (frames, 17, 3); prepare the file again"
            )
        return world[:, USED] if world.shape[1] == 32 else world

    def _sequence(
        self, name: str, action: str, world: Real, camera: Camera, pixels: Real
    ) -> MotionSequence:
        """Put 3D and 2D of one camera together."""
        full, frames = f"{name}/{camera.id}", len(world)
        if pixels.ndim != 3 or pixels.shape[1] != 17 or pixels.shape[2] < 2:
            raise DataError(
                f"{self.joints_file}: 2D joints of {full} have shape {pixels.shape}, expected "
                "(frames, 17, 2) in pixels; prepare the file again"
            )
        if len(pixels) < frames:
            raise DataError(
                f"{self.joints_file}: {full} has {len(pixels)} frames of 2D joints, but {frames} "
                "of 3D; expected at least as many, so prepare both files from the same videos"
            )
        if len(pixels) > frames:
            self.cut.append(len(pixels) - frames)
        joints = self.joints(pixels[:frames, :, :2], full)
        valid = finite_frames(world, full)
        self.excluded += int((~valid).sum())
        points = world_to_camera(np.where(valid[:, None, None], world, 0.0), camera)
        target = relative(points, valid)
        return MotionSequence(
            name=full,
            clip=name,
            subject=name.partition("/")[0],
            action=action,
            camera=camera.id,
            input=normalise(joints, camera.width, camera.height).astype(np.float32),
            target=target.astype(np.float32),
            truth_mm=(target * _TO_MM).astype(np.float32),
            to_mm=np.full(frames, _TO_MM, dtype=np.float32),
            valid=valid,
        )

    def _check_metadata(self, metadata: Any) -> None:
        """Raise unless the 2D joints are the 17 of Human3.6M in their order."""
        count = metadata.get("num_joints") if isinstance(metadata, dict) else None
        sides = metadata.get("keypoints_symmetry") if isinstance(metadata, dict) else None
        expected = [list(LEFT), list(RIGHT)]
        if count != 17 or [list(side) for side in sides or ()] != expected:
            raise DataError(
                f"{self.joints_file}: metadata says {count} joints with left and right {sides}, "
                f"expected 17 with {expected}; use the file prepared for Human3.6M's joints"
            )
