"""Human3.6M in the Stacked Hourglass pickle of MotionBERT (protocols.md, section 2)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.data.cameras import H36M_CAMERAS, normalise
from bench.data.readers.gaps import SplitReader, finite_frames, floats, relative
from bench.data.readers.h36m import ACTIONS
from bench.data.readers.safe_pickle import load_pickle
from bench.data.sequences import DataError, DataSet, MotionSequence, Split

Values = npt.NDArray[np.float32]

BY_NUMBER: Final = tuple(
    "Directions Discussion Eating Greeting Phoning Posing Purchases Sitting SittingDown Smoking "
    "Photo Waiting Walking WalkDog WalkTogether".split()
)
"""The 15 actions by their number in the names of the videos, from act_02 to act_16."""

SKIPPED: Final = ("s_09_act_05_subact_02", "s_09_act_10_subact_02", "s_09_act_13_subact_01")
"""Videos of S9 with defective 3D, which the published evaluation leaves out."""

_OTHER_NAMES: Final = {
    "direction": "Directions",
    "discuss": "Discussion",
    "eat": "Eating",
    "greet": "Greeting",
    "phone": "Phoning",
    "pose": "Posing",
    "purchase": "Purchases",
    "sit": "Sitting",
    "sitdown": "SittingDown",
    "smoke": "Smoking",
    "takephoto": "Photo",
    "takingphoto": "Photo",
    "wait": "Waiting",
    "walk": "Walking",
    "walkingdog": "WalkDog",
    "walktwo": "WalkTogether",
    "walkingtogether": "WalkTogether",
}
_SOURCE: Final = re.compile(r"s_(\d+)_act_(\d+)_subact_\d+_ca_\d+")
_CAMERA_SUFFIX: Final = 6  # characters: "_ca_01"
_SIZES: Final = {camera.id: (camera.width, camera.height) for camera in H36M_CAMERAS["S9"]}
_FPS: Final = 50.0
_EXPECTED: Final = (
    "the Stacked Hourglass pickle of MotionBERT, h36m_sh_conf_cam_source_final.pkl (its "
    "docs/pose3d.md says where to get it)"
)


def load_sh(file: str | os.PathLike[str], detector: str = "sh") -> DataSet:
    """Read Human3.6M with Stacked Hourglass detections, as MotionBERT and MotionAGFormer do.

    A sequence is one video: a stretch of frames of one `source`. The input has three channels, the
    third being the detector's confidence (1 where the file has none). Targets are
    `joint3d_image` normalised like the 2D (depth by 2/w) and relative to the pelvis.

    In the test split `to_mm` is w/2 x `2.5d_factor` of each frame, and `truth_mm` are
    `joints_2.5d_image` relative to the pelvis. The train split of the file has no millimetres:
    there `to_mm` is w/2 and `truth_mm` target x `to_mm`, which are pixels, not millimetres, and
    errors against it are comparable among each other only (see `DataSet.notes`). The videos
    in `SKIPPED` are left out of the test split.

    2D joints that are not finite are interpolated; frames of which the 3D is not finite do not
    count (`valid`).

    Args:
        file: the pickle; it is read without running what is in it.
        detector: the file has detections of Stacked Hourglass, "sh", alone.

    Raises:
        DataError: there is no such file, or, on loading a split: it is damaged, lacks an array,
            or has arrays of another shape, an unknown camera or an unknown action.
    """
    file = Path(file)
    if not file.is_file():
        raise DataError(f"{file}: no such file; expected {_EXPECTED}, so check the path")
    notes: list[str] = []
    return DataSet(
        name="sh",
        description="Human3.6M, recorded motion; 2D joints: fine-tuned Stacked Hourglass "
        "detections with confidence.",
        detector=detector,
        windows="sh",
        unmeasured=("train",),
        fps=_FPS,
        load=lambda split: _Reader(file, split, notes).sequences(),
        actions=ACTIONS,
        notes=notes,
    )


def action_of(action: object, source: str) -> str:
    """Return the action's name in the published tables.

    Args:
        action: of a frame in the file: a number from 2 to 16, `act_02` to `act_16`, or a name.
        source: of the frame; its number is used where the action is not known.

    Raises:
        KeyError: neither names one of the 15 actions.
    """
    text = re.sub(r"[^a-z0-9]", "", str(action).lower())
    number = re.fullmatch(r"(?:act)?(\d+)", text)
    by_name = {name.lower(): name for name in ACTIONS} | _OTHER_NAMES
    if not number and text in by_name:
        return by_name[text]
    parts = _SOURCE.fullmatch(source)
    digits = number.group(1) if number else parts.group(2) if parts else "0"
    if not 2 <= int(digits) <= 16:
        raise KeyError(
            f"no action {action!r} in {source!r}; there are act_02 to act_16, or "
            f"{', '.join(ACTIONS)}"
        )
    return BY_NUMBER[int(digits) - 2]


class _Reader(SplitReader):
    """The arrays of a split, checked: N frames each."""

    expected = _EXPECTED

    def __init__(self, file: Path, split: Split, notes: list[str]) -> None:
        super().__init__(split, notes)
        data = load_pickle(file, what=_EXPECTED)
        if not isinstance(data, dict) or not isinstance(data.get(split), dict):
            raise DataError(f"{file}: has no dictionary {split!r}; expected {_EXPECTED}")
        self.file = file
        self._part: dict[str, Any] = data[split]
        del data  # the other split can be gigabytes
        self.source = self._texts("source")
        self.camera = self._texts("camera_name")
        self.pixels = self._floats("joint_2d", (17, None))
        self.label = self._floats("joint3d_image", (17, 3))
        self.confidence: Values | None = None
        if "confidence" in self._part:
            flat = np.asarray(self._part["confidence"])
            self._part["confidence"] = flat[..., 0] if flat.ndim == 3 else flat
            self.confidence = self._floats("confidence", (17,))
        self.action = self.factor = self.truth = None
        if split == "test":
            self.action = self._texts("action")
            self.factor = self._floats("2.5d_factor", ())
            self.truth = self._floats("joints_2.5d_image", (17, 3))

    def sequences(self) -> Sequence[MotionSequence]:
        """Return the videos of the split, each a stretch of frames of one source."""
        sequences: list[MotionSequence] = []
        skipped: set[str] = set()
        names: dict[str, int] = {}
        changes = np.flatnonzero(self.source[1:] != self.source[:-1]) + 1
        for start, stop in pairwise([0, *changes.tolist(), len(self.source)]):
            source = str(self.source[start])
            clip = source[:-_CAMERA_SUFFIX]
            if self.split == "test" and clip in SKIPPED:
                skipped.add(clip)
                continue
            names[source] = names.get(source, 0) + 1
            name = source if names[source] == 1 else f"{source}/{names[source]}"
            sequences.append(self._sequence(slice(start, stop), name, clip))
        if skipped:
            self.note(f"{', '.join(sorted(skipped))} were left out (defective 3D)")
        if self.confidence is None:
            self.note("the file has no confidence; it is 1 throughout")
        if self.split == "train":
            self.note("truth_mm is in pixels, because the file has no millimetres for it")
        self.excluded = sum(int((~sequence.valid).sum()) for sequence in sequences)
        self.note_gaps()
        return sequences

    def _sequence(self, cut: slice, name: str, clip: str) -> MotionSequence:
        """Return one video."""
        source, camera = str(self.source[cut.start]), str(self.camera[cut.start])
        if camera not in _SIZES or (self.camera[cut] != camera).any():
            others = sorted(set(self.camera[cut].tolist()))
            raise DataError(
                f"{self.file}: {self.split} video {name} is of camera {', '.join(others)}, "
                f"expected one of {', '.join(_SIZES)}; expected {_EXPECTED}"
            )
        action = source if self.action is None else str(self.action[cut.start])
        try:
            action = action_of(action, source)
        except KeyError as error:
            raise DataError(f"{self.file}: {self.split} video {name}: {error.args[0]}") from None
        width, height = _SIZES[camera]
        joints = self.joints(self.pixels[cut, :, :2].astype(np.float64), name)
        confidence = np.ones(joints.shape[:2], dtype=np.float32)
        if self.confidence is not None:
            confidence = np.nan_to_num(self.confidence[cut])
        label = self.label[cut].astype(np.float64)
        to_mm = np.full(len(label), width / 2)
        valid = finite_frames(label, name)
        truth = None if self.truth is None else self.truth[cut].astype(np.float64)
        if truth is not None and self.factor is not None:
            to_mm *= self.factor[cut]
            valid &= finite_frames(truth, name) & np.isfinite(to_mm)
        to_mm[~valid] = width / 2
        target = relative(label, valid)
        subject = _SOURCE.fullmatch(source)
        return MotionSequence(
            name=name,
            clip=clip,
            subject=f"S{int(subject.group(1))}" if subject else clip,
            action=action,
            camera=camera,
            input=np.concatenate(
                [normalise(joints, width, height), confidence[..., None]], axis=-1
            ).astype(np.float32),
            target=(target * (2.0 / width)).astype(np.float32),
            truth_mm=(target if truth is None else relative(truth, valid)).astype(np.float32),
            to_mm=to_mm.astype(np.float32),
            valid=valid,
        )

    def _array(self, name: str) -> Any:
        return self.entry(self.file, self._part, name, self.split)

    def _texts(self, name: str) -> npt.NDArray[np.str_]:
        """Return one text per frame."""
        texts = np.asarray(self._array(name)).astype(np.str_)
        if texts.ndim != 1 or not len(texts):
            raise self._shape(name, texts.shape, "(frames,)")
        self._frames(name, len(texts))
        return texts

    def _floats(self, name: str, shape: tuple[int | None, ...]) -> Values:
        """Return numbers of a shape per frame; None is any length of at least 2."""
        values = floats(self._array(name), np.float32)
        actual = values.shape[1:]
        fits = values.ndim > 0 and len(actual) == len(shape)
        if not fits or any(
            got < 2 if want is None else got != want
            for got, want in zip(actual, shape, strict=True)
        ):
            sizes = ["2 or more" if want is None else str(want) for want in shape]
            raise self._shape(name, values.shape, f"({', '.join(['frames', *sizes])})")
        self._frames(name, len(values))
        return values

    def _shape(self, name: str, actual: tuple[int, ...], expected: str) -> DataError:
        return DataError(
            f"{self.file}: {self.split} {name!r} has shape {actual}, expected {expected}; expected "
            f"{_EXPECTED}"
        )

    def _frames(self, name: str, frames: int) -> None:
        """Raise unless there are as many frames as sources."""
        if name != "source" and frames != len(self.source):
            raise DataError(
                f"{self.file}: {self.split} {name!r} has {frames} frames, but 'source' "
                f"{len(self.source)}; expected one of each per frame, so download the file again"
            )
