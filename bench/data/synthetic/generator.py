"""Procedural human motion: gait and everyday activities on the 17-joint skeleton.

A stand-in where no recorded motion is at hand. Every clip is an articulated skeleton posed by
rotations: pelvis, lumbar and thoracic spine, head and arms by joint angles, legs by planted feet
(the knee follows from hip, foot and the two bone lengths). Bones therefore keep their lengths
exactly, and a stance foot stands still while the pelvis moves over it.

Conventions: seconds, metres, radians inside, degrees in the pose tables; body frame x forward,
y left, z up. Every random choice comes from a PCG64 stream seeded by (seed, split, activity), so
one activity never depends on another, and positions are rounded to a micrometre, so that the last
bit of a machine's sine does not show.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.data.readers.motion import Clip, MotionError, Split

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FPS: Final = 50
"""Frame rate of generated motion, that of Human3.6M."""

_PAD: Final = 3 * FPS  # frames walked before and after a clip, so that its first steps are whole
_PLANT: Final = 0.23  # phase of a stride at which the hips pass over the planted foot
_SUBJECTS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("G1", "G2", "G3", "G4", "G5"),
    "test": ("G6", "G7"),
}


def generate(
    *,
    seed: int = 0,
    frames: int = 1215,
    activities: Sequence[str] | None = None,
    split: Split = "test",
) -> list[Clip]:
    """Generate one clip per activity at 50 Hz.

    Args:
        seed: any whole number >= 0; with `split` and the activity's name it fixes the clip.
        frames: T, length of every clip; a longer clip begins with the shorter one.
        activities: names from `ACTIVITIES`, in the order wanted; None means all of them.
        split: `train` or `test`; other subjects and other motion in each.

    Returns:
        One clip per activity, named `<split>_<activity>`, float32 (T, 17, 3) metres, z up.

    Raises:
        MotionError: `frames`, `seed` or `split` is out of range.
        KeyError: an activity that does not exist; lists those that do.
    """
    if frames < 1 or seed < 0:
        raise MotionError(f"frames is {frames} and seed is {seed}; expected at least 1 and 0")
    if split not in _SUBJECTS:
        raise MotionError(f"split is {split!r}; expected 'train' or 'test'")
    names = tuple(ACTIVITIES) if activities is None else tuple(activities)
    for name in names:
        if name not in ACTIVITIES:
            raise KeyError(f"no activity {name!r}; there are {', '.join(ACTIVITIES)}")
    return [_clip(name, seed, frames, split) for name in names]


def _clip(activity: str, seed: int, frames: int, split: Split) -> Clip:
    """Generate the clip of one activity."""
    rng = _rng(seed, split, activity)
    subjects = _SUBJECTS[split]
    subject = subjects[int(rng.random() * len(subjects))]
    body = _body(_rng(seed, subject))
    pose = ACTIVITIES[activity](_Scene(rng, frames, body))
    positions = np.round(assemble(pose, body), 6).astype(np.float32)
    positions.flags.writeable = False
    return Clip(f"{split}_{activity}", subject, activity, split, positions, FPS)


def _rng(*key: object) -> np.random.Generator:
    """Return the PCG64 stream that belongs to a key."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


# --- body and pose -------------------------------------------------------------------------------


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


def _body(rng: np.random.Generator) -> Body:
    """Draw a subject: stature 92% to 104% of the default, each bone within 3% of that stature."""
    stature = rng.uniform(0.92, 1.04)
    standard = Body()
    return Body(
        **{
            name: getattr(standard, name) * stature * rng.uniform(0.97, 1.03)
            for name in Body.__dataclass_fields__
        }
    )


@dataclass
class Pose:
    """What a body does in T frames, before bone lengths turn it into joints.

    Attributes:
        root: (T, 3) position of the root, metres.
        pelvis: (T, 3) yaw, pitch (forward positive), roll (left side up positive).
        spine: (T, 3) the same, from pelvis to chest, shared by its two joints.
        head: (T, 3) the same, from chest to head.
        feet: (T, 2, 3) wanted ankle positions, left then right; the leg reaches as far as it can.
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
    pelvis = _turn(pose.pelvis)
    middle = pelvis @ _turn(pose.spine / 2)
    chest = middle @ _turn(pose.spine / 2)
    head = chest @ _turn(pose.head)

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
        flexion, abduction, rotation, bend = np.moveaxis(pose.arms[:, side], -1, 0)
        # Elbows do not bend backwards; the floor is soft, so that they do not stop dead either.
        bend = np.radians(3.0) * np.logaddexp(1.0, bend / np.radians(3.0))
        upper = chest @ _about_y(-flexion) @ _about_x(sign * abduction)
        upper = upper @ _about_z(-sign * rotation)
        lower = upper @ _about_y(-bend)
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


def _rotation(angle: Array, axis: int) -> Array:
    """Return the rotations (T, 3, 3) by `angle` (T,) about one axis."""
    matrix = np.zeros((*angle.shape, 3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1.0
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -matrix[..., second, first]
    return matrix


def _about_x(angle: Array) -> Array:
    """Rotate left side up for positive angles."""
    return _rotation(angle, 0)


def _about_y(angle: Array) -> Array:
    """Rotate the top forward for positive angles."""
    return _rotation(angle, 1)


def _about_z(angle: Array) -> Array:
    """Rotate the front to the left for positive angles."""
    return _rotation(angle, 2)


def _turn(angles: Array) -> Array:
    """Return the rotations (T, 3, 3) for yaw, pitch, roll (T, 3), applied in that order."""
    return _about_z(angles[:, 0]) @ _about_y(angles[:, 1]) @ _about_x(angles[:, 2])


# --- signals over time ---------------------------------------------------------------------------


@dataclass
class _Scene:
    """What an activity is given: its random stream, its length and its body."""

    rng: np.random.Generator
    frames: int
    body: Body
    time: Array = field(init=False)

    def __post_init__(self) -> None:
        self.time = np.arange(self.frames) / FPS

    def wander(
        self, std: float | Sequence[float], low: float = 0.1, high: float = 0.7, pad: int = 0
    ) -> Array:
        """Draw band-limited variation: a sum of nine sines between `low` and `high` Hz.

        Args:
            std: standard deviation, or one per channel.
            low: lowest frequency, Hz.
            high: highest frequency, Hz.
            pad: frames added before and after the clip.

        Returns:
            (T,) for one standard deviation, (T, channels) for several.
        """
        scale = np.atleast_1d(np.asarray(std, dtype=np.float64))
        time = np.arange(-pad, self.frames + pad) / FPS
        draws = self.rng.random((2, 9, len(scale)))
        hertz = low + (high - low) * (np.arange(9)[:, None] + draws[0]) / 9
        angle = 2 * np.pi * (hertz * time[:, None, None] + draws[1])
        signal = scale * np.sqrt(2 / 9) * np.sin(angle).sum(axis=1)
        return signal[:, 0] if np.ndim(std) == 0 else signal

    def moves(
        self, count: int, hold: tuple[float, float], ramp: tuple[float, float]
    ) -> tuple[Indices, Indices, Array]:
        """Visit `count` places in random order: stay at one, move to another, and so on.

        Args:
            count: number of places; place 0 comes first, and no place twice in a row.
            hold: shortest and longest stay, seconds.
            ramp: shortest and longest move, seconds.

        Returns:
            Per frame (T,): the place left, the place headed for, and the share of time passed
            between leaving and arriving, <= 0 before and >= 1 after.
        """
        # Own stream: the number of events depends on the length, later draws must not.
        rng = np.random.Generator(np.random.PCG64(int(self.rng.random() * 2**53)))
        events = int(self.frames / FPS / (hold[0] + ramp[0])) + 2
        draws = rng.random((events, 3))
        stay = hold[0] + (hold[1] - hold[0]) * draws[:, 0]
        move = ramp[0] + (ramp[1] - ramp[0]) * draws[:, 1]
        leaving = np.cumsum(stay + move) - move
        hops = 1 + np.floor(draws[:, 2] * (count - 1)).astype(np.int64)
        visited = np.concatenate([[0], np.cumsum(hops)]) % count
        event = np.maximum(np.searchsorted(leaving, self.time, side="right") - 1, 0)
        passed = (self.time - leaving[event]) / move[event]
        return visited[event], visited[event + 1], passed

    def track(self, poses: Array, hold: tuple[float, float], ramp: tuple[float, float]) -> Array:
        """Go smoothly between the rows of `poses` (N, D) as in `moves`; returns (T, D)."""
        before, after, passed = self.moves(len(poses), hold, ramp)
        return poses[before] + (poses[after] - poses[before]) * _ease(passed)[:, None]


def _ease(x: Array) -> Array:
    """Go from 0 at x <= 0 to 1 at x >= 1 without a jump in speed or acceleration."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 + x * (6.0 * x - 15.0))


def _lift(x: Array, early: float, late: float) -> Array:
    """Rise from 0 at x <= 0 to 1 at early / (early + late) and fall to 0 at x >= 1."""
    x = np.clip(x, 0.0, 1.0)
    peak = early / (early + late)
    top = peak**early * (1.0 - peak) ** late
    return np.asarray(x**early * (1.0 - x) ** late / top, dtype=np.float64)


# --- walking -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Gait:
    """Numbers of a gait; a stride is two steps and phase 0 is the strike of the left foot."""

    stride: float  # metres at 1 m/s; grows with the root of the speed
    hold: float  # share of the stride in which the foot is planted
    lift: float  # height of the ankle in swing, metres
    low: float  # lowest and highest hip-to-ankle reach, as shares of the leg
    high: float
    low_phase: float  # phase of the step at which the hips are lowest
    lean: float  # degrees
    swing: float  # amplitude of the arms, degrees
    elbow: float  # degrees
    early: float = 2.5  # exponents of the lift: the smaller the first, the earlier its peak
    late: float = 3.5
    delay: float = 1.0  # exponent on the time of the swing: above 1 the foot trails longer


_WALK: Final = _Gait(1.15, 0.45, 0.12, 0.983, 0.982, 0.03, 3.0, 24.0, 22.0)
_JOG: Final = _Gait(1.0, 0.28, 0.22, 0.93, 0.975, 0.18, 9.0, 34.0, 85.0, 2.2, 3.6, 1.3)


def _walk(scene: _Scene, path: Array, gait: _Gait) -> Pose:
    """Walk along a path.

    Each foot is planted beside the path point that the hips will pass at phase `_PLANT` and stays
    there, so strides are as long as the speed makes them and feet do not slide.

    Args:
        scene: random stream, length and body.
        path: (T + 2 * _PAD, 2) horizontal path of the pelvis, metres.
        gait: how to walk.
    """
    body, rng = scene.body, scene.rng
    scale = body.leg / 0.89
    velocity = np.gradient(path, axis=0) * FPS
    speed = np.linalg.norm(velocity, axis=-1)
    heading = np.unwrap(np.arctan2(velocity[:, 1], velocity[:, 0]))
    stride = gait.stride * np.sqrt(np.maximum(speed, 0.05) * scale)
    phase = np.cumsum(speed / stride) / FPS + rng.random()
    side = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)

    feet = np.empty((len(path), 2, 3))
    frame = np.arange(len(path), dtype=np.float64)
    for foot in range(2):
        own = phase + 0.5 * foot
        beside = path + side * (1 - 2 * foot) * 0.085 * scale
        count = np.floor(own)
        u = own - count
        here, there = (
            np.stack(
                [
                    np.interp(np.interp(count + k + _PLANT, own, frame), frame, beside[:, axis])
                    for axis in range(2)
                ],
                axis=-1,
            )
            for k in (0, 1)
        )
        swing = np.maximum(u - gait.hold, 0.0) / (1.0 - gait.hold)
        feet[:, foot, :2] = here + (there - here) * _ease(swing**gait.delay)[:, None]
        pace = np.sqrt(np.minimum(speed, 1.2) / 1.2)
        feet[:, foot, 2] = body.ankle + gait.lift * scale * pace * _lift(
            swing, gait.early, gait.late
        )

    inside = slice(_PAD, len(path) - _PAD)
    cycle = 2 * np.pi * phase[inside]
    reach = _PLANT * stride[inside]
    vigour = np.minimum(speed[inside] / 1.2, 1.2)
    # At the strike the leg is nearly straight and reaches forward: that bounds the hips.
    lowest = np.sqrt(np.maximum((gait.low * body.leg) ** 2 - reach**2, (0.6 * body.leg) ** 2))
    highest = gait.high * body.leg
    wave = np.cos(2 * cycle - 4 * np.pi * gait.low_phase)
    height = body.ankle + (lowest + highest) / 2 - np.maximum(highest - lowest, 0.0) / 2 * wave
    sway = (0.022 * scale * np.sin(cycle - 0.4))[:, None] * side[inside]
    root = np.concatenate([path[inside] + sway, height[:, None]], axis=-1)

    twist = np.radians(6.0) * vigour * np.cos(cycle)
    pelvis = np.stack(
        [
            heading[inside] - twist,
            np.full_like(cycle, np.radians(gait.lean / 2)),
            np.radians(3.0) * vigour * np.sin(cycle - 0.3),
        ],
        axis=-1,
    )
    spine = np.stack([2.1 * twist, np.full_like(cycle, np.radians(gait.lean / 2)), -pelvis[:, 2]])
    noise = np.radians(scene.wander([1.5, 1.5, 1.5]))
    head = np.radians(scene.wander([10.0, 5.0, 2.5], 0.05, 0.4))
    head[:, 0] -= 1.1 * twist
    arms = np.empty((scene.frames, 2, 4))
    for arm in range(2):
        # The left arm goes with the right leg.
        wave = -np.cos(cycle + np.pi * arm - 0.2) * vigour
        arms[:, arm, 0] = np.radians(-2.0 + gait.swing * wave)
        arms[:, arm, 1] = np.radians(9.0)
        arms[:, arm, 2] = np.radians(20.0)
        arms[:, arm, 3] = np.radians(gait.elbow + 0.45 * gait.swing * wave)
    arms += np.radians(scene.wander([3.0, 2.5, 4.0, 4.0] * 2)).reshape(-1, 2, 4)
    return Pose(root, pelvis, spine.T + noise, head, feet[inside], arms)


def _loop(scene: _Scene, speed: float, radius: float) -> Array:
    """Draw a path round the room: a circle whose radius and speed vary slowly."""
    rng = scene.rng
    way = 1.0 if rng.random() < 0.5 else -1.0
    around = radius + scene.wander(0.09 * radius, 0.02, 0.12, _PAD)
    pace = speed * (1.0 + scene.wander(0.07, 0.03, 0.2, _PAD)) / around
    angle = 2 * np.pi * rng.random() + way * np.cumsum(pace) / FPS
    return around[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _walking(scene: _Scene) -> Pose:
    """Walk in a ring."""
    return _walk(scene, _loop(scene, scene.rng.uniform(1.05, 1.3), 1.35), _WALK)


def _jogging(scene: _Scene) -> Pose:
    """Jog in a ring."""
    return _walk(scene, _loop(scene, scene.rng.uniform(1.45, 1.62), 1.5), _JOG)


def _walking_slow_turns(scene: _Scene) -> Pose:
    """Stroll along a figure of eight, slower where it bends."""
    pace = scene.rng.uniform(0.4, 0.48) * (1.0 + scene.wander(0.12, 0.03, 0.2, _PAD))
    angle = 2 * np.pi * scene.rng.random() + np.cumsum(pace) / FPS
    turn = 2 * np.pi * scene.rng.random()
    length, width = 1.45 * np.sin(angle), 0.62 * np.sin(2 * angle)
    path = np.stack(
        [
            length * np.cos(turn) - width * np.sin(turn),
            length * np.sin(turn) + width * np.cos(turn),
        ],
        axis=-1,
    )
    return _walk(scene, path, _WALK)


# --- standing and sitting ------------------------------------------------------------------------

_Arm = tuple[float, float, float, float]

# Shoulder flexion, abduction, inward rotation and elbow flexion in degrees, found by fitting the
# wrist of a default body to a place relative to its chest.
_HANG: Final[_Arm] = (4, 9, 25, 18)
_MOUTH: Final[_Arm] = (58, 4, 46, 137)
_EAR: Final[_Arm] = (92, 26, 20, 140)
_CAMERA: Final[_Arm] = (71, 16, 32, 95)
_WAVE: Final[_Arm] = (118, 62, 40, 78)
_GESTURE: Final[_Arm] = (18, 14, 12, 91)
_WIDE: Final[_Arm] = (11, 26, -27, 97)
_CHEST: Final[_Arm] = (18, 18, 27, 120)
_LAP: Final[_Arm] = (16, 8, 31, 46)
_PLATE: Final[_Arm] = (19, 14, 37, 79)
_AKIMBO: Final[_Arm] = (-20, 46, 49, 96)
_FOLDED: Final[_Arm] = (26, 6, 69, 96)
_FRONT: Final[_Arm] = (76, 10, 21, 45)
_UP: Final[_Arm] = (136, 11, 24, 27)
_ASIDE: Final[_Arm] = (46, 58, -20, 55)
_DOWN: Final[_Arm] = (62, 6, 15, 14)
_KNEES: Final[_Arm] = (28, 8, 25, 30)


@dataclass(frozen=True)
class _Key:
    """A posture to hold: arms and trunk in degrees, hips in metres from where they would be.

    Attributes:
        main: the arm that acts (left or right, drawn per clip).
        other: the other arm.
        lean: trunk forward.
        twist: trunk towards the acting side.
        side: trunk bent towards the acting side.
        look: head turned towards the acting side.
        nod: head down.
        drop: hips below standing height.
        back: hips behind the middle of the feet.
    """

    main: _Arm = _HANG
    other: _Arm = _HANG
    lean: float = 2.0
    twist: float = 0.0
    side: float = 0.0
    look: float = 0.0
    nod: float = 5.0
    drop: float = 0.0
    back: float = 0.0

    def row(self) -> list[float]:
        """Return the 15 numbers of this posture in field order."""
        trunk = [self.lean, self.twist, self.side, self.look, self.nod, self.drop, self.back]
        return [*self.main, *self.other, *trunk]


def _act(
    scene: _Scene,
    keys: Sequence[_Key],
    *,
    hold: tuple[float, float] = (0.8, 2.5),
    ramp: tuple[float, float] = (0.7, 1.2),
    step: tuple[float, float] | None = (3.0, 8.0),
    roam: float = 1.0,
    shake: float = 0.0,
) -> Pose:
    """Move between postures on planted feet.

    Args:
        scene: random stream, length and body.
        keys: postures; the first comes first, the others in random order.
        hold: shortest and longest stay in a posture, seconds.
        ramp: shortest and longest move between postures, seconds.
        step: shortest and longest time between small steps, seconds; None keeps the feet planted.
        roam: how far the steps lead, 1 about the room; small on a chair, where only feet shuffle.
        shake: degrees by which the acting arm waves while it is raised.
    """
    body, rng = scene.body, scene.rng
    scale = body.leg / 0.89
    main = int(rng.random() < 0.6)  # 0 left, 1 right
    sign = 1.0 - 2.0 * main
    rows = scene.track(np.array([key.row() for key in keys]), hold, ramp)

    arms = np.empty((scene.frames, 2, 4))
    arms[:, main], arms[:, 1 - main] = rows[:, 0:4], rows[:, 4:8]
    arms += scene.wander([6.0, 4.0, 8.0, 8.0] * 2, 0.1, 1.2).reshape(-1, 2, 4)
    raised = np.clip(rows[:, 0] / 100.0, 0.0, 1.0)
    beat = np.sin(2 * np.pi * (1.5 * scene.time + 0.2 * scene.wander(1.0, 0.05, 0.3)))
    arms[:, main, 2] += shake * raised**2 * beat

    trunk = rows[:, 8:11] * [1.0, sign, -sign] + scene.wander([3.0, 5.0, 2.5], 0.1, 0.8)
    lean, twist, bend = np.radians(trunk).T
    gaze = rows[:, 11:13] * [sign, 1.0] + scene.wander([13.0, 6.0], 0.1, 0.9)
    turned, nod = np.radians(gaze).T
    sit = np.clip(rows[:, 13] / 0.45, 0.0, 1.0)
    # Between standing and sitting the trunk goes forward, or the body would fall back.
    lean = lean + np.radians(30.0) * 4.0 * sit * (1.0 - sit)

    feet, place, heading, stepping = _stand(scene, step, roam)
    ahead = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    across = np.stack([-ahead[:, 1], ahead[:, 0]], axis=-1)
    shift = scene.wander([0.03, 0.016, 0.005], 0.1, 0.6) * scale * (1.0 - 0.7 * sit)[:, None]
    root = np.empty((scene.frames, 3))
    root[:, :2] = place + across * shift[:, :1] + ahead * (shift[:, 1:2] + 0.02)
    root[:, :2] -= ahead * rows[:, 14:15] * scale
    root[:, 2] = body.ankle + 0.976 * body.leg + shift[:, 2] - rows[:, 13] * scale
    root[:, 2] -= 0.05 * scale * stepping

    roll = np.radians(scene.wander(2.0, 0.1, 0.6))
    pelvis = np.stack([heading + 0.2 * twist, 0.4 * lean, roll], axis=-1)
    spine = np.stack([0.8 * twist, 0.6 * lean, bend - roll], axis=-1)
    head = np.stack([turned, nod - 0.35 * lean, -0.5 * bend], axis=-1)
    return Pose(root, pelvis, spine, head, feet, np.radians(arms))


def _stand(
    scene: _Scene, step: tuple[float, float] | None, roam: float
) -> tuple[Array, Array, Array, Array]:
    """Place the feet: planted, with a small step of one foot after the other now and then.

    Returns:
        Feet (T, 2, 3), the place between them (T, 2), the heading (T,), and a bump (T,) that is 1
        in the middle of a step.
    """
    body, rng = scene.body, scene.rng
    scale = body.leg / 0.89
    start = 2 * np.pi * rng.random()
    places = 6
    spots = roam * 0.44 * (rng.random((places, 2)) - 0.5)
    turns = start + roam * np.radians(70.0) * (rng.random(places) - 0.5)
    apart = scale * (0.1 + 0.04 * rng.random(places))
    forward = scale * 0.14 * (rng.random(places) - 0.5)
    hold = (1e9, 1e9) if step is None else step
    before, after, passed = scene.moves(places, hold, (1.1, 1.6))
    across = np.stack([-np.sin(turns), np.cos(turns)], axis=-1)
    ahead = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    feet = np.empty((scene.frames, 2, 3))
    for foot in range(2):
        sign = 1 - 2 * foot
        planted = spots + sign * (apart[:, None] * across + forward[:, None] * ahead)
        planted = planted - 0.02 * scale * ahead
        own = (passed - 0.45 * foot) / 0.55
        path = planted[after] - planted[before]
        feet[:, foot, :2] = planted[before] + path * _ease(own)[:, None]
        far = np.minimum(np.linalg.norm(path, axis=-1) / 0.3, 1.0)
        feet[:, foot, 2] = body.ankle + 0.07 * scale * far * _lift(own, 3.0, 3.0)
    done = _ease(passed)
    place = spots[before] + (spots[after] - spots[before]) * done[:, None]
    heading = turns[before] + (turns[after] - turns[before]) * done
    return feet, place, heading, 4.0 * done * (1.0 - done)


def _seat(key: _Key, *, back: float = 0.42) -> _Key:
    """Put a posture on a chair."""
    return replace(key, drop=0.455, back=back)


def _discussion(scene: _Scene) -> Pose:
    """Talk with both hands."""
    keys = [
        _Key(_GESTURE, _HANG, look=10),
        _Key(_GESTURE, _GESTURE, lean=4),
        _Key(_WIDE, _WIDE, nod=0),
        _Key(_CHEST, _GESTURE, twist=10, look=15),
        _Key(_HANG, _GESTURE, twist=-10, look=-15),
        _Key(),
    ]
    return _act(scene, keys, hold=(0.1, 0.7), ramp=(0.5, 0.9), step=(1.5, 4.0))


def _greeting(scene: _Scene) -> Pose:
    """Wave, bow and offer a hand."""
    keys = [
        _Key(),
        _Key(_WAVE, _HANG, nod=-4),
        _Key(_FRONT, _HANG, lean=8),
        _Key(_HANG, _HANG, lean=24, nod=12),
        _Key(_WAVE, _WAVE, nod=-8),
    ]
    return _act(scene, keys, hold=(0.4, 1.4), ramp=(0.6, 1.0), step=(2.0, 5.0), shake=16.0)


def _phoning(scene: _Scene) -> Pose:
    """Walk about with a phone at the ear, the other hand free."""
    keys = [
        _Key(_EAR, _HANG, look=-4),
        _Key(_EAR, _GESTURE, twist=8),
        _Key(_EAR, _AKIMBO, nod=12),
        _Key(_EAR, _WIDE, look=-18),
        _Key(_PLATE, _HANG, nod=22),
    ]
    walk, talk = _walking_slow_turns(scene), _act(scene, keys, hold=(1.0, 3.0))
    return replace(walk, arms=talk.arms, head=talk.head)


def _eating(scene: _Scene) -> Pose:
    """Sit and bring a hand from plate to mouth."""
    keys = [
        _Key(_PLATE, _PLATE, lean=10, nod=15),
        _Key(_MOUTH, _PLATE, lean=12, nod=10),
        _Key(_PLATE, _GESTURE, lean=6, look=-12),
        _Key(_MOUTH, _MOUTH, lean=8, nod=2),
    ]
    return _act(scene, [_seat(key) for key in keys], hold=(0.2, 1.0), step=(4.0, 9.0), roam=0.1)


def _sitting(scene: _Scene) -> Pose:
    """Sit, shift about and look round."""
    keys = [
        _Key(_LAP, _LAP),
        _Key(_KNEES, _KNEES, lean=22, nod=8),
        _Key(_FOLDED, _FOLDED, lean=-6),
        _Key(_GESTURE, _LAP, twist=12, look=20),
        _Key(_MOUTH, _LAP, lean=14, side=4, nod=12),
        _Key(_LAP, _HANG, lean=-4, twist=-15, look=-30),
    ]
    return _act(scene, [_seat(key) for key in keys], hold=(0.6, 2.5), step=(3.0, 8.0), roam=0.1)


def _sit_down_stand_up(scene: _Scene) -> Pose:
    """Sit down on a chair and stand up again."""
    keys = [
        _Key(),
        _seat(_Key(_LAP, _LAP)),
        _Key(_GESTURE, _HANG, look=12),
        _seat(_Key(_KNEES, _KNEES, lean=18)),
    ]
    return _act(scene, keys, hold=(0.4, 1.5), ramp=(1.3, 1.9), step=None)


def _picking_up(scene: _Scene) -> Pose:
    """Squat or stoop for things on the floor and lift them."""
    squat = _Key(_DOWN, _KNEES, lean=48, side=6, nod=10, drop=0.44, back=0.13)
    keys = [
        _Key(),
        squat,
        _Key(_PLATE, _PLATE, nod=15),
        replace(squat, main=_DOWN, other=_DOWN, side=0.0, lean=44),
        _Key((66, 8, 10, 10), (50, 12, 20, 25), lean=72, nod=0, drop=0.1, back=0.17),
        _Key(_CHEST, _CHEST, lean=-3),
    ]
    return _act(scene, keys, hold=(0.2, 1.0), ramp=(1.0, 1.5), step=(3.0, 7.0))


def _reaching(scene: _Scene) -> Pose:
    """Take things from shelves: ahead, above and to the side."""
    keys = [
        _Key(),
        _Key(_FRONT, _HANG, lean=14, twist=-14),
        _Key(_UP, _HANG, lean=-3, side=-6, nod=-20),
        _Key(_ASIDE, _HANG, twist=24, side=8, look=30),
        _Key(_FRONT, _FRONT, lean=18, nod=14),
        _Key(_PLATE, _PLATE, nod=20),
        _Key(_UP, _UP, lean=-4, nod=-22),
    ]
    return _act(scene, keys, hold=(0.2, 0.9), ramp=(0.8, 1.2), step=(1.5, 4.0))


def _posing(scene: _Scene) -> Pose:
    """Strike poses."""
    keys = [
        _Key(_AKIMBO, _AKIMBO),
        _Key(_AKIMBO, _HANG, twist=15, look=-20),
        _Key(_FOLDED, _FOLDED, lean=-3, nod=-3),
        _Key(_UP, _AKIMBO, side=-10),
        _Key(_ASIDE, _ASIDE, nod=-6),
        _Key(_CHEST, _AKIMBO, twist=-15, look=20, drop=0.06),
    ]
    return _act(scene, keys, hold=(0.5, 1.5), ramp=(0.8, 1.2), step=(1.5, 4.0))


def _smoking(scene: _Scene) -> Pose:
    """Bring a hand to the mouth and down again."""
    keys = [
        _Key(_HANG, _HANG),
        _Key(_MOUTH, _HANG, nod=2),
        _Key(_GESTURE, _FOLDED, look=14),
        _Key(_MOUTH, _FOLDED),
        _Key(_CHEST, _HANG, look=-16),
    ]
    return _act(scene, keys, hold=(0.4, 1.6), ramp=(0.7, 1.1), step=(1.5, 4.5))


def _waiting(scene: _Scene) -> Pose:
    """Wait: shift weight, look round, step from place to place."""
    keys = [
        _Key(),
        _Key(_FOLDED, _FOLDED, look=20),
        _Key(_AKIMBO, _HANG, look=-35, twist=-10),
        _Key(_PLATE, _HANG, nod=25),
        _Key(_HANG, _HANG, look=40, twist=12),
    ]
    return _act(scene, keys, hold=(0.8, 3.0), step=(0.6, 3.0))


def _photo(scene: _Scene) -> Pose:
    """Take photographs: raise a camera, aim, lower it."""
    keys = [
        _Key(_CAMERA, _CAMERA, nod=0),
        _Key(_PLATE, _PLATE, nod=22),
        _Key(_CAMERA, _CAMERA, lean=12, nod=4, drop=0.12),
        _Key(_CAMERA, _CAMERA, twist=16),
        _Key(_HANG, _CHEST, look=20),
    ]
    return _act(scene, keys, hold=(0.5, 1.8), step=(1.2, 3.5))


ACTIVITIES: Final[dict[str, Callable[[_Scene], Pose]]] = {
    "walking": _walking,
    "walking_slow_turns": _walking_slow_turns,
    "jogging": _jogging,
    "discussion": _discussion,
    "greeting": _greeting,
    "phoning": _phoning,
    "eating": _eating,
    "sitting": _sitting,
    "sit_down_stand_up": _sit_down_stand_up,
    "picking_up": _picking_up,
    "reaching": _reaching,
    "posing": _posing,
    "smoking": _smoking,
    "waiting": _waiting,
    "photo": _photo,
}
"""Every activity by name; a new one is a function and a row here."""
