"""Postures of generated activities on the spot, in degrees and metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final

Arm = tuple[float, float, float, float]
Range = tuple[float, float]

# Shoulder flexion, abduction, inward rotation and elbow flexion in degrees, found by fitting the
# wrist of a default body to a place relative to its chest.
_HANG: Final[Arm] = (4, 9, 25, 18)
_MOUTH: Final[Arm] = (58, 4, 46, 137)
_EAR: Final[Arm] = (92, 26, 20, 140)
_CAMERA: Final[Arm] = (71, 16, 32, 95)
_WAVE: Final[Arm] = (118, 62, 40, 78)
_GESTURE: Final[Arm] = (18, 14, 12, 91)
_WIDE: Final[Arm] = (11, 26, -27, 97)
_CHEST: Final[Arm] = (18, 18, 27, 120)
_LAP: Final[Arm] = (16, 8, 31, 46)
_PLATE: Final[Arm] = (19, 14, 37, 79)
_AKIMBO: Final[Arm] = (-20, 46, 49, 96)
_FOLDED: Final[Arm] = (26, 6, 69, 96)
_FRONT: Final[Arm] = (76, 10, 21, 45)
_UP: Final[Arm] = (136, 11, 24, 27)
_ASIDE: Final[Arm] = (46, 58, -20, 55)
_DOWN: Final[Arm] = (62, 6, 15, 14)
_KNEES: Final[Arm] = (28, 8, 25, 30)


@dataclass(frozen=True)
class Key:
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

    main: Arm = _HANG
    other: Arm = _HANG
    lean: float = 2.0
    twist: float = 0.0
    side: float = 0.0
    look: float = 0.0
    nod: float = 5.0
    drop: float = 0.0
    back: float = 0.0

    def row(self) -> list[float]:
        """Return the 15 numbers of this posture in field order."""
        main, other, *trunk = astuple(self)
        return [*main, *other, *trunk]


@dataclass(frozen=True)
class Activity:
    """Moving between postures on planted feet.

    Attributes:
        keys: postures; the first comes first, the others in random order.
        hold: shortest and longest stay in a posture, seconds.
        ramp: shortest and longest move between postures, seconds.
        step: shortest and longest time between small steps, seconds; None keeps the feet planted.
        roam: how far the steps lead, 1 about the room; small on a chair, where only feet shuffle.
        shake: degrees by which the acting arm waves while it is raised.
    """

    keys: Sequence[Key]
    hold: Range = (0.8, 2.5)
    ramp: Range = (0.7, 1.2)
    step: Range | None = (3.0, 8.0)
    roam: float = 1.0
    shake: float = 0.0


def _seated(*keys: Key) -> list[Key]:
    """Put postures on a chair."""
    return [replace(key, drop=0.455, back=0.42) for key in keys]


POSTURES: Final[dict[str, Activity]] = {
    # Talk with both hands.
    "discussion": Activity(
        [
            Key(_GESTURE, _HANG, look=10),
            Key(_GESTURE, _GESTURE, lean=4),
            Key(_WIDE, _WIDE, nod=0),
            Key(_CHEST, _GESTURE, twist=10, look=15),
            Key(_HANG, _GESTURE, twist=-10, look=-15),
            Key(),
        ],
        hold=(0.1, 0.7),
        ramp=(0.5, 0.9),
        step=(1.5, 4.0),
    ),
    # Wave, bow and offer a hand.
    "greeting": Activity(
        [
            Key(),
            Key(_WAVE, _HANG, nod=-4),
            Key(_FRONT, _HANG, lean=8),
            Key(_HANG, _HANG, lean=24, nod=12),
            Key(_WAVE, _WAVE, nod=-8),
        ],
        hold=(0.4, 1.4),
        ramp=(0.6, 1.0),
        step=(2.0, 5.0),
        shake=16.0,
    ),
    # Hold a phone at the ear, the other hand free.
    "phoning": Activity(
        [
            Key(_EAR, _HANG, look=-4),
            Key(_EAR, _GESTURE, twist=8),
            Key(_EAR, _AKIMBO, nod=12),
            Key(_EAR, _WIDE, look=-18),
            Key(_PLATE, _HANG, nod=22),
        ],
        hold=(1.0, 3.0),
    ),
    # Sit and bring a hand from plate to mouth.
    "eating": Activity(
        _seated(
            Key(_PLATE, _PLATE, lean=10, nod=15),
            Key(_MOUTH, _PLATE, lean=12, nod=10),
            Key(_PLATE, _GESTURE, lean=6, look=-12),
            Key(_MOUTH, _MOUTH, lean=8, nod=2),
        ),
        hold=(0.2, 1.0),
        step=(4.0, 9.0),
        roam=0.1,
    ),
    # Sit, shift about and look round.
    "sitting": Activity(
        _seated(
            Key(_LAP, _LAP),
            Key(_KNEES, _KNEES, lean=22, nod=8),
            Key(_FOLDED, _FOLDED, lean=-6),
            Key(_GESTURE, _LAP, twist=12, look=20),
            Key(_MOUTH, _LAP, lean=14, side=4, nod=12),
            Key(_LAP, _HANG, lean=-4, twist=-15, look=-30),
        ),
        hold=(0.6, 2.5),
        roam=0.1,
    ),
    # Sit down on a chair and stand up again.
    "sit_down_stand_up": Activity(
        [
            Key(),
            *_seated(Key(_LAP, _LAP)),
            Key(_GESTURE, _HANG, look=12),
            *_seated(Key(_KNEES, _KNEES, lean=18)),
        ],
        hold=(0.4, 1.5),
        ramp=(1.3, 1.9),
        step=None,
    ),
    # Squat or stoop for things on the floor and lift them.
    "picking_up": Activity(
        [
            Key(),
            Key(_DOWN, _KNEES, lean=48, side=6, nod=10, drop=0.44, back=0.13),
            Key(_PLATE, _PLATE, nod=15),
            Key(_DOWN, _DOWN, lean=44, nod=10, drop=0.44, back=0.13),
            Key((66, 8, 10, 10), (50, 12, 20, 25), lean=72, nod=0, drop=0.1, back=0.17),
            Key(_CHEST, _CHEST, lean=-3),
        ],
        hold=(0.2, 1.0),
        ramp=(1.0, 1.5),
        step=(3.0, 7.0),
    ),
    # Take things from shelves: ahead, above and to the side.
    "reaching": Activity(
        [
            Key(),
            Key(_FRONT, _HANG, lean=14, twist=-14),
            Key(_UP, _HANG, lean=-3, side=-6, nod=-20),
            Key(_ASIDE, _HANG, twist=24, side=8, look=30),
            Key(_FRONT, _FRONT, lean=18, nod=14),
            Key(_PLATE, _PLATE, nod=20),
            Key(_UP, _UP, lean=-4, nod=-22),
        ],
        hold=(0.2, 0.9),
        ramp=(0.8, 1.2),
        step=(1.5, 4.0),
    ),
    # Strike poses.
    "posing": Activity(
        [
            Key(_AKIMBO, _AKIMBO),
            Key(_AKIMBO, _HANG, twist=15, look=-20),
            Key(_FOLDED, _FOLDED, lean=-3, nod=-3),
            Key(_UP, _AKIMBO, side=-10),
            Key(_ASIDE, _ASIDE, nod=-6),
            Key(_CHEST, _AKIMBO, twist=-15, look=20, drop=0.06),
        ],
        hold=(0.5, 1.5),
        ramp=(0.8, 1.2),
        step=(1.5, 4.0),
    ),
    # Bring a hand to the mouth and down again.
    "smoking": Activity(
        [
            Key(_HANG, _HANG),
            Key(_MOUTH, _HANG, nod=2),
            Key(_GESTURE, _FOLDED, look=14),
            Key(_MOUTH, _FOLDED),
            Key(_CHEST, _HANG, look=-16),
        ],
        hold=(0.4, 1.6),
        ramp=(0.7, 1.1),
        step=(1.5, 4.5),
    ),
    # Wait: shift weight, look round, step from place to place.
    "waiting": Activity(
        [
            Key(),
            Key(_FOLDED, _FOLDED, look=20),
            Key(_AKIMBO, _HANG, look=-35, twist=-10),
            Key(_PLATE, _HANG, nod=25),
            Key(_HANG, _HANG, look=40, twist=12),
        ],
        hold=(0.8, 3.0),
        step=(0.6, 3.0),
    ),
    # Take photographs: raise a camera, aim, lower it.
    "photo": Activity(
        [
            Key(_CAMERA, _CAMERA, nod=0),
            Key(_PLATE, _PLATE, nod=22),
            Key(_CAMERA, _CAMERA, lean=12, nod=4, drop=0.12),
            Key(_CAMERA, _CAMERA, twist=16),
            Key(_HANG, _CHEST, look=20),
        ],
        hold=(0.5, 1.8),
        step=(1.2, 3.5),
    ),
}
"""Activities on the spot by name; a new one is a row here."""
