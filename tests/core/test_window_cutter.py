from __future__ import annotations

import pytest
import torch

from h2ot_core.errors import ConfigError, InputError
from h2ot_core.windows import POLICIES, stretched_frames, window_frames, window_starts


@pytest.mark.parametrize(
    ("policy", "frames", "expected"),
    [
        ("strict", 7, [-1, 2, 5]),
        ("hot", 8, [0, 3, 6]),
        ("mixste", 7, [0, 3, 4]),
        ("mixste", 2, [0]),
        ("sh", 8, [0, 3]),
        ("sh", 2, [0]),
        ("centre", 3, [-1, 0, 1]),
    ],
)
def test_starts(policy: str, frames: int, expected: list[int]) -> None:
    assert window_starts(frames, 3, policy).tolist() == expected


def test_stride_keeps_whole_windows() -> None:
    assert window_starts(10, 4, stride=3).tolist() == [0, 3, 6]
    assert window_starts(3, 4, stride=3).tolist() == window_starts(3, 4).tolist() == [0]


def test_the_middle_of_an_even_window_is_the_earlier() -> None:
    assert window_frames(window_starts(2, 4, "centre"), 4, 1).tolist() == [
        [0, 0, 1, 1],
        [0, 1, 1, 1],
    ]


def test_ends_are_held_within_each_video() -> None:
    # Two videos of 3 and 2 frames, one behind the other.
    starts, first, last = torch.tensor([-1, 3]), torch.tensor([[0], [3]]), torch.tensor([[2], [4]])
    assert window_frames(starts, 4, last, first).tolist() == [[0, 0, 1, 2], [3, 4, 4, 4]]
    assert stretched_frames(2, 5).tolist() == [[0, 0, 0, 1, 1]]


def test_errors_name_what_is_known() -> None:
    with pytest.raises(ConfigError, match=", ".join(POLICIES)):
        window_starts(5, 3, "loose")
    with pytest.raises(InputError, match="0 frames in windows of 3"):
        window_starts(0, 3)
