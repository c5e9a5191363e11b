"""Small files in the layouts of the published data sets, made of generated motion."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.cameras import H36M_CAMERAS, Camera, project, world_to_camera
from bench.data.synthetic.detector import DetectorNoise
from bench.data.synthetic.generator import generate

Real = npt.NDArray[np.float64]

ALL_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
ALL_ACTIONS = tuple(
    "Directions Discussion Eating Greeting Phoning Photo Posing Purchases Sitting SittingDown "
    "Smoking Waiting WalkDog Walking WalkTogether".split()
)
# protocols.md, section 1: where the 17 joints lie among the 32.
OF_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
# Human3.6M's actions by number, as they stand in the names of its videos.
BY_NUMBER = tuple(
    "Directions Discussion Eating Greeting Phoning Posing Purchases Sitting SittingDown Smoking "
    "Photo Waiting Walking WalkDog WalkTogether".split()
)
# MPI-INF-3DHP's 17 joints among those of Human3.6M: head top, neck, right arm, left arm, right leg,
# left leg, pelvis, spine, head.
OF_H36M = (10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9)


@cache
def world_poses(subject: str, frames: int) -> dict[str, npt.NDArray[np.float32]]:
    """Action to (frames, 17, 3) metres, z up, around the origin; other motion per subject."""
    clips = generate(seed=int(subject[1:]), frames=frames)
    poses = {}
    for action, clip in zip(ALL_ACTIONS, clips, strict=True):
        world = clip.positions.copy()
        world[..., :2] -= world[:, :1, :2].mean(axis=0)
        poses[action] = world
    return poses


def take_names(subject: str, actions: Sequence[str] = ALL_ACTIONS) -> list[str]:
    """One sequence of every action and a second of the first; S11's first Directions is no more."""
    names = [*actions, f"{actions[0]} 1"]
    return [name for name in names if (subject, name) != ("S11", "Directions")]


def made_h36m(
    folder: Path,
    *,
    frames: int = 8,
    subjects: Sequence[str] = ALL_SUBJECTS,
    actions: Sequence[str] = ALL_ACTIONS,
    tail: int = 0,
) -> Path:
    """Write the npz files of VideoPose3D: 3D, exact 2D, and 2D with a detector's error.

    Args:
        folder: where to write.
        frames: of every sequence.
        subjects: to write.
        actions: to write.
        tail: frames by which the 2D of the first camera is longer than the 3D.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    poses: dict[str, Any] = {}
    exact: dict[str, Any] = {}
    detected: dict[str, Any] = {}
    for subject in subjects:
        poses[subject], exact[subject], detected[subject] = {}, {}, {}
        for name in take_names(subject, actions):
            world = world_poses(subject, frames + tail)[name.split(" ")[0]]
            all_joints = np.full((frames, 32, 3), 9.0, dtype=np.float32)  # unused ones lie far off
            all_joints[:, OF_32] = world[:frames]
            views = [
                project(world_to_camera(world, camera), camera).astype(np.float32)
                for camera in H36M_CAMERAS[subject]
            ]
            views[1:] = [view[:frames] for view in views[1:]]
            poses[subject][name] = all_joints
            exact[subject][name] = views
            detected[subject][name] = [
                DetectorNoise().detect(view, rng).astype(np.float32) for view in views
            ]
    metadata: Any = {
        "layout_name": "h36m",
        "num_joints": 17,
        "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
    }
    np.savez_compressed(folder / "data_3d_h36m.npz", positions_3d=poses)  # type: ignore[arg-type]
    for name, joints in (("cpn_ft_h36m_dbb", detected), ("gt", exact)):
        np.savez_compressed(
            folder / f"data_2d_h36m_{name}.npz",
            positions_2d=joints,  # type: ignore[arg-type]
            metadata=metadata,
        )
    return folder


def image_poses(points: Real, camera: Camera) -> tuple[Real, Real]:
    """Joints in the image as (x px, y px, depth in the same scale), and mm per pixel by frame.

    Args:
        points: (T, 17, 3) metres in the camera's frame.
        camera: that sees them.
    """
    factor = points[:, 0, 2] * 1000 / camera.focal[0]
    depth = (points[..., 2] - points[:, :1, 2]) * 1000 / factor[:, None]
    return np.concatenate([project(points, camera), depth[..., None]], axis=-1), factor


def made_sh(
    file: Path,
    *,
    frames: int = 8,
    actions: Sequence[int] = tuple(range(2, 17)),
    train: Sequence[str] = ("S1", "S5", "S6", "S7", "S8"),
    test: Sequence[str] = ("S9", "S11"),
    confidence: bool = True,
) -> Path:
    """Write the pickle of MotionBERT's Stacked Hourglass protocol.

    Args:
        file: to write.
        frames: of every video.
        actions: by their numbers in the data set.
        train: subjects.
        test: subjects; S9's defective videos are among theirs.
        confidence: with the detector's.
    """
    data = {
        "train": _sh_part(train, frames, actions, confidence, test=False),
        "test": _sh_part(test, frames, actions, confidence, test=True),
    }
    file.write_bytes(pickle.dumps(data, protocol=4))
    return file


def _sh_part(
    subjects: Sequence[str], frames: int, actions: Sequence[int], confidence: bool, *, test: bool
) -> dict[str, Any]:
    rng = np.random.default_rng(int(test))
    parts: dict[str, list[Any]] = {
        name: []
        for name in ("joint_2d", "joint3d_image", "camera_name", "source", "action", "factor")
    }
    for subject in subjects:
        for number in actions:
            world = world_poses(subject, frames)[BY_NUMBER[number - 2]]
            for repeat in (1, 2):
                for k, camera in enumerate(H36M_CAMERAS[subject], start=1):
                    source = (
                        f"s_{int(subject[1:]):02d}_act_{number:02d}_subact_{repeat:02d}_ca_{k:02d}"
                    )
                    image, factor = image_poses(world_to_camera(world, camera), camera)
                    parts["joint3d_image"].append(image)
                    parts["joint_2d"].append(DetectorNoise().detect(image[..., :2], rng))
                    parts["camera_name"] += [camera.id] * frames
                    parts["source"] += [source] * frames
                    parts["action"] += [f"act_{number:02d}"] * frames
                    parts["factor"].append(factor)
    image = np.concatenate(parts["joint3d_image"])
    part: dict[str, Any] = {
        "joint_2d": np.concatenate(parts["joint_2d"]).astype(np.float32),
        "joint3d_image": image.astype(np.float32),
        "camera_name": parts["camera_name"],
        "source": parts["source"],
    }
    if confidence:
        part["confidence"] = rng.random(image.shape[:2], dtype=np.float32)
    if test:
        factor = np.concatenate(parts["factor"])
        part["action"] = parts["action"]
        part["2.5d_factor"] = factor
        part["joints_2.5d_image"] = image * factor[:, None, None]
    return part


def seen_3dhp(world: npt.NDArray[np.float32], width: int, height: int) -> tuple[Real, Real]:
    """Millimetres in the frame of a camera 4 m away without distortion, and pixels."""
    camera = H36M_CAMERAS["S1"][0]
    points = world_to_camera(world, camera)[:, OF_H36M] * 1000
    pixels = points[..., :2] / points[..., 2:] * width * 0.7 + np.array([width, height]) / 2
    return points, pixels


def made_3dhp(
    folder: Path,
    *,
    frames: int = 8,
    subjects: Sequence[int] = tuple(range(1, 9)),
    cameras: Sequence[str] = tuple("01245678"),
) -> Path:
    """Write the train and test npz of MPI-INF-3DHP; the second frame of every test is not valid."""
    folder.mkdir(parents=True, exist_ok=True)
    train: dict[str, Any] = {}
    for subject in subjects:
        for repeat in (1, 2):
            world = world_poses(f"S{10 * subject + repeat}", frames)["Walking"]
            points, pixels = seen_3dhp(world, 2048, 2048)
            views = {
                camera: {"data_2d": pixels + int(camera), "data_3d": points} for camera in cameras
            }
            train[f"S{subject} Seq{repeat}"] = [views, 25 if repeat == 1 else 50]
    test: dict[str, Any] = {}
    for number in range(1, 7):
        size = (1920, 1080) if number > 4 else (2048, 2048)
        world = world_poses(f"S{100 + number}", frames)["Sitting"]
        points, pixels = seen_3dhp(world, *size)
        valid = np.ones(frames)
        valid[1] = 0
        test[f"TS{number}"] = {"data_2d": pixels, "data_3d": points, "valid": valid}
    np.savez_compressed(folder / "data_train_3dhp.npz", data=train)  # type: ignore[arg-type]
    np.savez_compressed(folder / "data_test_3dhp.npz", data=test)  # type: ignore[arg-type]
    return folder
