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
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.data.readers.motion import Clip, MotionError, Split
from bench.data.synthetic.body import Array, Body, Pose, assemble, draw_body
from bench.data.synthetic.postures import POSTURES, Activity, Range

Indices = npt.NDArray[np.int64]

FPS: Final = 50
"""Frame rate of generated motion, that of Human3.6M."""

_PAD: Final = 3 * FPS  # frames walked before and after a clip, so that its first steps are complete
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
        activities: names from `ACTIVITIES`, in the order of the clips; None means all of them.
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
    body = draw_body(_rng(seed, subject))
    pose = ACTIVITIES[activity](_Scene(rng, frames, body))
    positions = np.round(assemble(pose, body), 6).astype(np.float32)
    positions.flags.writeable = False
    return Clip(f"{split}_{activity}", subject, activity, split, positions, FPS)


def _rng(*key: object) -> np.random.Generator:
    """Return the PCG64 stream that belongs to a key."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


# --- signals over time ---------------------------------------------------------------------------


@dataclass
class _Scene:
    """The inputs of an activity: its random stream, its length and its body."""

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

    def moves(self, count: int, hold: Range, ramp: Range) -> tuple[Indices, Indices, Array]:
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

    def track(self, poses: Array, hold: Range, ramp: Range) -> Array:
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
    scale = body.scale
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


# --- on the spot --------------------------------------------------------------------------------


def _act(activity: Activity, scene: _Scene) -> Pose:
    """Move between postures on planted feet."""
    body, rng = scene.body, scene.rng
    scale = body.scale
    main = int(rng.random() < 0.6)  # 0 left, 1 right
    sign = 1.0 - 2.0 * main
    keys = np.array([key.row() for key in activity.keys])
    rows = scene.track(keys, activity.hold, activity.ramp)

    arms = np.empty((scene.frames, 2, 4))
    arms[:, main], arms[:, 1 - main] = rows[:, 0:4], rows[:, 4:8]
    arms += scene.wander([6.0, 4.0, 8.0, 8.0] * 2, 0.1, 1.2).reshape(-1, 2, 4)
    raised = np.clip(rows[:, 0] / 100.0, 0.0, 1.0)
    beat = np.sin(2 * np.pi * (1.5 * scene.time + 0.2 * scene.wander(1.0, 0.05, 0.3)))
    arms[:, main, 2] += activity.shake * raised**2 * beat

    trunk = rows[:, 8:11] * [1.0, sign, -sign] + scene.wander([3.0, 5.0, 2.5], 0.1, 0.8)
    lean, twist, bend = np.radians(trunk).T
    gaze = rows[:, 11:13] * [sign, 1.0] + scene.wander([13.0, 6.0], 0.1, 0.9)
    turned, nod = np.radians(gaze).T
    sit = np.clip(rows[:, 13] / 0.45, 0.0, 1.0)
    # Between standing and sitting the trunk goes forward, or the body would fall back.
    lean = lean + np.radians(30.0) * 4.0 * sit * (1.0 - sit)

    feet, place, heading, stepping = _stand(scene, activity.step, activity.roam)
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


def _stand(scene: _Scene, step: Range | None, roam: float) -> tuple[Array, Array, Array, Array]:
    """Place the feet: planted, with a small step of one foot after the other now and then.

    Returns:
        Feet (T, 2, 3), the place between them (T, 2), the heading (T,), and a bump (T,) that is 1
        in the middle of a step.
    """
    body, rng = scene.body, scene.rng
    scale = body.scale
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


def _phoning(scene: _Scene) -> Pose:
    """Walk about with a phone at the ear."""
    walk, talk = _walking_slow_turns(scene), _act(POSTURES["phoning"], scene)
    return replace(walk, arms=talk.arms, head=talk.head)


ACTIVITIES: Final[dict[str, Callable[[_Scene], Pose]]] = {
    "walking": _walking,
    "walking_slow_turns": _walking_slow_turns,
    "jogging": _jogging,
    **{name: partial(_act, activity) for name, activity in POSTURES.items()},
    "phoning": _phoning,
}
"""Every activity by name. A new one is a row of `POSTURES`, or a function and a row here."""
