"""What every pruner, with every recoverer and any number of stages, must do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from h2ot_core import PRUNERS, RECOVERERS, Hourglass, Selection

Build = Callable[..., Hourglass]
Clips = Callable[..., Tensor]

R = {1: (9,), 2: (13, 9), 3: (13, 9, 4)}
B = {1: (2,), 2: (0, 3), 3: (1, 2, 4)}


def cases(counts: Iterable[int] = R) -> list[Any]:
    """Every combination, as arguments of ``build``; seq2frame also without a recoverer."""
    found = []
    pipelines = [("seq2seq", name) for name in RECOVERERS]
    pipelines += [("seq2frame", name) for name in (*RECOVERERS, "none")]
    for prune, kind in PRUNERS.items():
        for pipeline, recover in pipelines:
            for stages in counts:
                # Before block 0 there is no temporal attention to score frames by.
                late = kind.requires == "attention" and B[stages][0] == 0
                arguments = {
                    "prune": prune,
                    "recover": recover,
                    "pipeline": pipeline,
                    "r": R[stages],
                    "b": (1, 3) if late else B[stages],
                }
                found.append(pytest.param(arguments, id=f"{prune}-{recover}-{pipeline}-{stages}"))
    return found


every_case = pytest.mark.parametrize("case", cases())


class Listener:
    """A probe that notes what it is told."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.within = False

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        assert not self.within
        self.names.append(name)
        self.within = True
        yield
        self.within = False


@every_case
def test_shapes_and_selections(small: Build, clips: Clips, case: dict[str, Any]) -> None:
    model, x = small(**case), clips(3)
    out = model.run(x)
    frames = 27 if case["pipeline"] == "seq2seq" else 1
    assert out.poses.shape == (3, frames, 5, 3)
    assert out.kept.shape == (3, case["r"][-1], 5, 3)
    assert [s.keep for s in out.selections] == list(case["r"])
    for row in range(3):
        before = set(range(27))
        for selection in out.selections:
            index = selection.validate().index.expand(3, -1)[row].tolist()
            assert all(early < late for early, late in pairwise(index))
            assert set(index) <= before
            assert case["pipeline"] == "seq2seq" or 13 in index
            before = set(index)
    assert torch.equal(model(x), out.poses)


@every_case
def test_poses_at_kept_frames(small: Build, clips: Clips, case: dict[str, Any]) -> None:
    """What is put out at a kept frame is the pose of that frame, to the bit."""
    out = small(**case).run(clips())
    last = out.selections[-1]
    if case["pipeline"] == "seq2seq":
        assert torch.equal(last.gather(out.poses), out.kept)
    else:
        for row, index in enumerate(last.index.expand(2, -1).tolist()):
            assert torch.equal(out.poses[row, 0], out.kept[row, index.index(13)])


@every_case
def test_same_seed_same_model(small: Build, clips: Clips, case: dict[str, Any]) -> None:
    one, two = (small(seed=3, **case).run(clips()) for _ in range(2))
    assert torch.equal(one.poses, two.poses)
    assert same_selections(one.selections, two.selections)


def same_selections(one: tuple[Selection, ...], two: tuple[Selection, ...]) -> bool:
    pairs = zip(one, two, strict=True)
    return all(torch.equal(a.index, b.index) and a.frames == b.frames for a, b in pairs)


@every_case
def test_a_clip_does_not_depend_on_its_batch(
    small: Build, clips: Clips, case: dict[str, Any]
) -> None:
    model, x = small(**case), clips(4)
    together = model.run(x)
    for row in range(4):
        alone = model.run(x[row : row + 1])
        for one, all_rows in zip(alone.selections, together.selections, strict=True):
            assert torch.equal(one.index[0], all_rows.index.expand(4, -1)[row])
        assert torch.allclose(alone.poses[0], together.poses[row], rtol=0, atol=1e-5)


@every_case
def test_gradients_reach_every_weight(small: Build, clips: Clips, case: dict[str, Any]) -> None:
    model, x = small(**case), clips().requires_grad_()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        # A constant added to every key leaves attention as it was.
        if not name.endswith("linear_k.bias"):
            assert bool(parameter.grad.any()), name
    assert x.grad is not None
    assert bool(x.grad.any())


@every_case
def test_given_selections_reproduce_the_run(
    small: Build, clips: Clips, case: dict[str, Any]
) -> None:
    model, x = small(**case), clips()
    out = model.run(x)
    plain = [Selection(s.index, s.frames) for s in out.selections]
    for given in (out.selections, plain):
        again = model.run(x, selections=given)
        assert torch.equal(again.poses, out.poses)
        assert torch.equal(again.kept, out.kept)
        assert same_selections(again.selections, out.selections)


@every_case
def test_a_probe_hears_every_section_and_changes_nothing(
    small: Build, clips: Clips, case: dict[str, Any]
) -> None:
    model, x, listener = small(**case), clips(), Listener()
    probed = model.run(x, probe=listener)
    # Recovering is a mark after the last selection, and the way back to F frames.
    recovering = [] if case["recover"] == "none" else ["recover"] * 2
    assert listener.names == ["prune"] * len(case["r"]) + recovering
    plain = model.run(x)
    assert torch.equal(probed.poses, plain.poses)
    assert same_selections(probed.selections, plain.selections)


@every_case
def test_copies_and_saved_states_are_the_same_model(
    small: Build, clips: Clips, case: dict[str, Any]
) -> None:
    model, x = small(**case), clips()
    expected = model(x)
    assert torch.equal(copy.deepcopy(model).eval()(x), expected)
    other = small(seed=1, **case)
    assert not torch.equal(other(x), expected)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), expected)


@every_case
def test_training_drops_paths(small: Build, clips: Clips, case: dict[str, Any]) -> None:
    model, x = small(**case), clips()
    expected, _, selections = vars(model.run(x)).values()
    model.train()
    torch.manual_seed(0)
    dropped = model.run(x, selections=selections).poses
    torch.manual_seed(0)
    assert torch.equal(model.run(x, selections=selections).poses, dropped)
    assert bool(dropped.isfinite().all())
    assert not torch.allclose(dropped, expected, atol=1e-4)
    model(x).sum().backward()


@every_case
def test_double_precision(small: Build, clips: Clips, case: dict[str, Any]) -> None:
    model, x = small(**case), clips()
    single = model.run(x)
    double = model.double().run(x.double(), selections=single.selections)
    assert double.poses.dtype == torch.float64
    assert torch.allclose(double.poses.float(), single.poses, atol=1e-4)
    assert model(x.double()).shape == single.poses.shape


@pytest.mark.parametrize("case", cases([2]))
def test_shapes_without_values(small: Build, case: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = small(jitter=False, **case)
    out = model.run(torch.empty((2, 27, 5, 2), device="meta"))
    frames = 27 if case["pipeline"] == "seq2seq" else 1
    assert out.poses.shape == (2, frames, 5, 3)
    assert out.poses.is_meta
