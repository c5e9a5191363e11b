"""Selections: gathering, interpolation neighbours, and selections that come from outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from h2ot_core import Hourglass, InputError, Selection
from h2ot_core.selection import bracket, equidistant, take


@st.composite
def selections(draw: st.DrawFn) -> tuple[list[int], int]:
    frames = draw(st.integers(1, 60))
    return sorted(draw(st.sets(st.integers(0, frames - 1), min_size=1))), frames


def test_gather_picks_each_rows_own_frames() -> None:
    x = torch.arange(24.0).reshape(2, 4, 3)
    own = Selection(torch.tensor([[0, 2], [1, 3]]), 4)
    assert torch.equal(own.gather(x), torch.stack([x[0, [0, 2]], x[1, [1, 3]]]))
    shared = Selection(torch.tensor([[1, 2]]), 4)
    assert torch.equal(shared.gather(x), x[:, [1, 2]])
    assert (own.keep, shared.keep) == (2, 2)
    single = Selection(torch.tensor([[1], [3]]), 4)
    assert torch.equal(single.gather(x), torch.stack([x[0, [1]], x[1, [3]]]))


def test_take_is_differentiable() -> None:
    x = torch.zeros(2, 4, 1, requires_grad=True)
    take(x, torch.tensor([[0, 3], [1, 2]])).sum().backward()
    assert x.grad is not None
    assert x.grad.squeeze(2).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0]]


@given(selections())
def test_bracket_holds_each_frames_neighbours(selection: tuple[list[int], int]) -> None:
    index, frames = selection
    found = bracket(torch.tensor([index]), frames)
    assert {value.dtype for value in vars(found).values()} == {torch.int64}
    for t, (low, high, step, gap) in enumerate(
        zip(*(value[0].tolist() for value in vars(found).values()), strict=True)
    ):
        before = [frame for frame in index if frame <= t] or index[:1]
        after = [frame for frame in index if frame >= t] or index[-1:]
        assert (index[low], index[high]) == (before[-1], after[0])
        if before[-1] < t < after[0]:
            assert (step, gap) == (t - before[-1], after[0] - before[-1])
        else:
            assert 0 <= step <= gap


def test_bracket_counts_in_parts_of_a_frame() -> None:
    """Of 9 frames to 5: every other one; to 17: every frame and the middles between."""
    index = torch.tensor([[0, 3, 8]])
    fewer, more = bracket(index, 9, 5), bracket(index, 9, 17)
    assert (fewer.step / fewer.gap)[0].tolist() == pytest.approx([0, 2 / 3, 1 / 5, 3 / 5, 0])
    assert (more.low[0].tolist(), more.gap[0, 1].item()) == ([0] * 6 + [1] * 10 + [2], 6)
    for found in (fewer, more):
        assert {value.dtype for value in vars(found).values()} == {torch.int64}


def test_equidistant_spreads_an_even_grid() -> None:
    found = equidistant(4, 10, torch.device("cpu"))  # a kept frame at 0, 3, 6 and 9
    assert found.low.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3]]
    assert (found.step[0] / found.gap[0]).tolist() == pytest.approx([0, 1 / 3, 2 / 3] * 3 + [0])
    assert found.high.tolist() == [[1, 1, 1, 2, 2, 2, 3, 3, 3, 3]]
    ends = equidistant(4, 2, torch.device("cpu"))
    assert ends.low.tolist() == [[0, 3]]
    assert ends.step.tolist() == [[0, 0]]


def test_everything_stays_on_the_device_of_its_input() -> None:
    """On one without values, so that nothing may come from elsewhere."""
    meta = torch.device("meta")
    index = torch.zeros(2, 3, dtype=torch.int64, device=meta)
    assert take(torch.zeros(2, 4, 1, device=meta), index).is_meta
    for found in (bracket(index, 9), equidistant(3, 9, meta)):
        assert all(value.is_meta for value in vars(found).values())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([0, 2]), r"int64 tensor \(B, K\), got torch.int64 of shape \(2,\)"),
        (torch.tensor([[0, 2]], dtype=torch.int32), "got torch.int32"),
        (torch.zeros(1, 0, dtype=torch.int64), "1 to 9 frames, got 0"),
        (torch.arange(10)[None], "1 to 9 frames, got 10"),
        (torch.tensor([[0, 3, 2]]), "increase strictly"),
        (torch.tensor([[0, 2, 2]]), "increase strictly"),
        (torch.tensor([[0, 1], [5, 9]]), r"\[0, 9\), got 0 to 9"),
        (torch.tensor([[-1, 1]]), r"\[0, 9\), got -1 to 1"),
    ],
)
def test_what_validate_refuses(index: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Selection(index, 9).validate()


def test_validate_returns_the_selection() -> None:
    for index in ([[0, 8], [3, 4]], [[0], [8]], [list(range(9))]):
        selection = Selection(torch.tensor(index), 9)
        assert selection.validate() is selection


# --- selections handed to a model


@pytest.fixture(scope="module")
def two_stages(small: Callable[..., Hourglass]) -> Hourglass:
    return small(frames=9, r=(5, 3), b=(0, 2))


def given_to(model: Hourglass, *indices: list[list[int]], frames: int = 9, batch: int = 2) -> None:
    x = torch.zeros(batch, 9, 5, 2)
    model.run(x, [Selection(torch.tensor(index), frames) for index in indices])


FIRST, SECOND = [0, 2, 4, 6, 8], [0, 4, 8]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([[FIRST]], "2 pruning stages, got 1 selections"),
        ([], "2 pruning stages, got 0 selections"),
        ([[FIRST], [SECOND], [[0]]], "2 pruning stages, got 3 selections"),
        ([[[0, 2, 4, 8]], [SECOND]], "stage 0 keeps 5 of 9 frames, got a selection of 4 of 9"),
        ([[FIRST], [[0, 8]]], "stage 1 keeps 3 of 9 frames, got a selection of 2 of 9"),
        ([[FIRST], [[0, 3, 8]]], "stage 1 keeps frames that stage 0 dropped"),
        ([[FIRST, [0, 1, 2, 3, 4]], [SECOND]], "stage 1 keeps frames that stage 0 dropped"),
        ([[[2, 0, 4, 6, 8]], [SECOND]], "increase strictly"),
        ([[[0, 2, 4, 6, 9]], [SECOND]], r"\[0, 9\), got 0 to 9"),
        ([[FIRST] * 3, [SECOND]], r"one row per clip \(2\) or a single row, got 3"),
    ],
)
def test_selections_that_do_not_fit(
    two_stages: Hourglass, indices: list[list[list[int]]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        given_to(two_stages, *indices)


def test_selections_of_another_length_do_not_fit(two_stages: Hourglass) -> None:
    with pytest.raises(InputError, match="got a selection of 5 of 27"):
        given_to(two_stages, [FIRST], [SECOND], frames=27)


def test_seq2frame_needs_the_centre_in_every_selection(small: Callable[..., Hourglass]) -> None:
    model = small(scheme="tpm", frames=9, r=(5, 3), b=(0, 2))
    given_to(model, [FIRST], [SECOND])
    with pytest.raises(InputError, match="centre frame 4 in every selection; stage 1 lacks it"):
        given_to(model, [FIRST], [[0, 6, 8]])
    with pytest.raises(InputError, match="centre frame 4 in every selection; stage 0 lacks it"):
        given_to(model, [FIRST, [0, 2, 3, 6, 8]], [SECOND])


def test_a_model_without_stages_takes_no_selection(small: Callable[..., Hourglass]) -> None:
    model = small(scheme="none", frames=9)
    assert model.run(torch.zeros(1, 9, 5, 2), selections=[]).selections == ()
    with pytest.raises(InputError, match="0 pruning stages, got 1"):
        given_to(model, [FIRST])


def test_given_selections_are_used_row_by_row(
    small: Callable[..., Hourglass], clips: Callable[..., Tensor]
) -> None:
    """Different rows, then one row for all; each clip as it comes out alone."""
    model, x = small(frames=9, r=(5, 3), b=(0, 2)), clips(frames=9)
    first, second = [[0, 1, 4, 5, 8], [0, 2, 4, 6, 8]], [[0, 4, 8]]
    together = model.run(x, [Selection(torch.tensor(i), 9) for i in (first, second)])
    assert together.selections[-1].index.tolist() == second
    for row in range(2):
        given = [Selection(torch.tensor(i), 9) for i in ([first[row]], second)]
        alone = model.run(x[row : row + 1], given)
        assert np.allclose(alone.poses[0].detach(), together.poses[row].detach(), atol=1e-5)
    other = model.run(x, [Selection(torch.tensor([first[1]]), 9), together.selections[1]])
    assert not torch.allclose(other.poses[0], together.poses[0], atol=1e-3)
