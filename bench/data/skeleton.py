"""The 17-joint skeletons: Human3.6M's names, parents and sides, and COCO's names.

Source: protocols.md, section 1 (32 joints reduced to 17, keypoint symmetry).
"""

from typing import Final

JOINT_NAMES: Final[tuple[str, ...]] = (
    "Hip",
    "RHip",
    "RKnee",
    "RFoot",
    "LHip",
    "LKnee",
    "LFoot",
    "Spine",
    "Thorax",
    "Neck/Nose",
    "Head",
    "LShoulder",
    "LElbow",
    "LWrist",
    "RShoulder",
    "RElbow",
    "RWrist",
)
"""Joint names in storage order; joint 0 is the root, and the feet are the ankles."""

PARENTS: Final[tuple[int, ...]] = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
"""Parent of each joint; -1 marks the root."""

LEFT: Final[tuple[int, ...]] = (4, 5, 6, 11, 12, 13)
"""Joints of the left side, in the order of their partners in `RIGHT`."""

RIGHT: Final[tuple[int, ...]] = (1, 2, 3, 14, 15, 16)
"""Joints of the right side, in the order of their partners in `LEFT`."""

COCO_NAMES: Final = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""The 17 joints of COCO's person, in storage order."""
