"""The articulated body of generated motion: bone lengths, poses as angles, forward kinematics.

Metres and radians; body frame x forward, y left, z up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from bench.data.rotations import rotation

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Body:
    """Bone lengths in metres; the defaults are close to the subjects of Human3.6M."""

    hip: float = 0.13
    thigh: float = 0.44
    shin: float = 0.45
    ankle: float = 0.08
    lumbar: float = 0.23
    chest: float = 0.25
    neck: float = 0.12
    head: float = 0.115
    shoulder: float = 0.15
    upper_arm: float = 0.28
    forearm: float = 0.25

    @property
    def leg(self) -> float:
        """Hip to ankle with a straight knee."""
        return self.thigh + self.shin

    @property
    def scale(self) -> float:
        """Length of the leg as a share of the default's."""
        return self.leg / 0.89


def draw_body(rng: np.random.Generator) -> Body:
    """Draw a subject: stature 92% to 104% of the default, each bone within 3% of that stature."""
    stature = rng.uniform(0.92, 1.04)
    bones = asdict(Body())
    return Body(**{name: x * stature * rng.uniform(0.97, 1.03) for name, x in bones.items()})


@dataclass
class Pose:
    """What a body does in T frames, before bone lengths turn it into joints.

    Attributes:
        root: (T, 3) position of the root, metres.
        pelvis: (T, 3) yaw, pitch (forward positive), roll (left side up positive).
        spine: (T, 3) the same, from pelvis to chest, shared by its two joints.
        head: (T, 3) the same, from chest to head.
        feet: (T, 2, 3) desired ankle positions, left then right; the leg reaches as far as it can.
        arms: (T, 2, 4) left then right: shoulder flexion, abduction and inward rotation, elbow
            flexion.
    """

    root: Array
    pelvis: Array
    spine: Array
    head: Array
    feet: Array
    arms: Array


def assemble(pose: Pose, body: Body) -> Array:
    """Turn a pose into joints by forward kinematics.

    Args:
        pose: T frames of angles, root and feet.
        body: bone lengths.

    Returns:
        (T, 17, 3) metres, in the order of `JOINT_NAMES`.
    """
    joints = np.zeros((len(pose.root), 17, 3))
    joints[:, 0] = pose.root
    pelvis, half = rotation(pose.pelvis, "zyx"), rotation(pose.spine / 2, "zyx")
    middle = pelvis @ half
    chest = middle @ half
    head = chest @ rotation(pose.head, "zyx")

    for side, (hip, knee, foot) in ((0, (4, 5, 6)), (1, (1, 2, 3))):
        sign = 1 - 2 * side
        joints[:, hip] = pose.root + pelvis @ np.array([0.0, sign * body.hip, 0.0])
        # Knees point where the pelvis faces, a little outward, however far the trunk leans.
        yaw = pose.pelvis[:, 0] + sign * np.radians(8.0)
        ahead = np.stack([np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)], axis=-1)
        joints[:, knee], joints[:, foot] = _leg(joints[:, hip], pose.feet[:, side], ahead, body)

    joints[:, 7] = joints[:, 0] + middle @ np.array([0.0, 0.0, body.lumbar])
    joints[:, 8] = joints[:, 7] + chest @ np.array([0.0, 0.0, body.chest])
    joints[:, 9] = joints[:, 8] + head @ (body.neck * _unit(0.40, 0.0, 0.92))
    joints[:, 10] = joints[:, 9] + head @ (body.head * _unit(-0.25, 0.0, 0.97))

    for side, (shoulder, elbow, wrist) in ((0, (11, 12, 13)), (1, (14, 15, 16))):
        sign = 1 - 2 * side
        # Flexion, abduction and rotation turn about y, x and z of the shoulder.
        turns = pose.arms[:, side, :3] * [-1, sign, -sign]
        # Elbows do not bend backwards; the limit is soft, so that they do not stop dead either.
        bend = np.radians(3.0) * np.logaddexp(1.0, pose.arms[:, side, 3:] / np.radians(3.0))
        upper = rotation(turns, "yxz", start=chest)
        lower = rotation(-bend, "y", start=upper)
        joints[:, shoulder] = joints[:, 8] + chest @ (body.shoulder * _unit(0, sign * 0.97, -0.2))
        joints[:, elbow] = joints[:, shoulder] + upper @ np.array([0.0, 0.0, -body.upper_arm])
        joints[:, wrist] = joints[:, elbow] + lower @ np.array([0.0, 0.0, -body.forearm])
    return joints


def _leg(hip: Array, target: Array, ahead: Array, body: Body) -> tuple[Array, Array]:
    """Place knee and ankle (T, 3) of a leg whose knee bends towards `ahead`.

    A target out of reach is approached along the line from the hip; the limit is soft, because a
    hard one would snap the knee.
    """
    reach = target - hip
    length = np.linalg.norm(reach, axis=-1, keepdims=True)
    down = reach / length
    soft = 0.006 * body.leg
    length = length - soft * np.logaddexp(0.0, (length - 0.995 * body.leg) / soft)
    along = (body.thigh**2 - body.shin**2 + length**2) / (2 * length)
    out = ahead - down * (ahead * down).sum(axis=-1, keepdims=True)
    out /= np.linalg.norm(out, axis=-1, keepdims=True)
    knee = hip + along * down + np.sqrt(np.maximum(body.thigh**2 - along**2, 0.0)) * out
    return knee, hip + length * down


def _unit(x: float, y: float, z: float) -> Array:
    """Return the direction (x, y, z) with length one."""
    vector = np.array([x, y, z], dtype=np.float64)
    return vector / np.linalg.norm(vector)
