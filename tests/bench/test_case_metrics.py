"""Metrics of one case at a time: frame noise, training memory, and processes of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import h2ot_core
from bench.data.windows import MotionSource, Window
from bench.metrics import METRICS, counts, frame_noise, process_memory, training_memory
from bench.metrics.base import NotApplicable, Reading, excuse
from bench.models.context import Context
from bench.records.case import Case
from bench.records.status import Failure
from bench.workers import isolated

F = 27
MOTION = MotionSource.generated(frames=54)
CONTEXT = Context(MOTION)
TINY = (("depth", 3), ("heads", 2), ("width", 16))
BASE = Case(host="mixste", frames=F, options=TINY)
HOT = replace(BASE, prune="tpc", recover="tra", r=(9,), b=(1,))
H2OT = replace(BASE, prune="tps", recover="tri", r=(13, 9), b=(0, 2))


def by_name(readings: list[Reading]) -> dict[str, Reading]:
    return {reading.metric: reading for reading in readings}


# --- parameters and FLOPs ----------------------------------------------------------------------


def test_counts_of_a_tiny_host() -> None:
    taken = by_name(counts.measure(BASE, CONTEXT))
    assert tuple(taken) == METRICS["counts"].readings
    C, J, hidden, depth = 16, 17, 32, 3
    half = 2 * 2 * C + (C + 1) * 3 * C + (C + 1) * C + (C + 1) * hidden + (hidden + 1) * C
    embedding = 3 * C + J * C + F * C
    norms_and_head = 3 * 2 * C + (C + 1) * 3
    assert taken["param_count"].values == (2 * depth * half + embedding + norms_and_head,)
    assert taken["flops_full"].protocol["confirmed_by"] == ["fvcore", "thop", "torch"]
    assert taken["flops_full_by_section"].labels == ("",)
    assert {r.unit for r in taken.values()} == {"1", "flop"}


def test_counts_do_not_depend_on_where_a_case_runs() -> None:
    elsewhere = replace(BASE, batch=4, device="cuda", dtype="float16", threads=3, motion="other")
    assert counts.measure(elsewhere, CONTEXT) == counts.measure(BASE, CONTEXT)


# --- frame noise -------------------------------------------------------------------------------


def _uniform(frames: list[int], keep: int) -> list[int]:
    """Even positions, rounded half to even."""
    steps = (Fraction(k * (len(frames) - 1), keep - 1) for k in range(keep))
    return [frames[round(step)] for step in steps]


def _liveliest(window: Window, frames: list[int], keep: int) -> list[int]:
    """The frames whose pose differs most from that of the kept frame before."""
    poses = window.input[frames].astype(np.float64)
    moved = [0.0, *np.abs(np.diff(poses, axis=0)).sum(axis=(1, 2))]
    order = sorted(range(len(frames)), key=lambda i: (-moved[i], i))
    return sorted(frames[i] for i in order[:keep])


def _noise(window: Window, frames: list[int]) -> float:
    error = (window.detected_px - window.clean_px)[frames].astype(np.float64)
    return float(np.sqrt((error**2).sum(axis=-1)).mean())


Choose = Callable[[Window, list[int], int], list[int]]


@pytest.mark.parametrize(
    ("prune", "choose"),
    [("tps", lambda window, frames, keep: _uniform(frames, keep)), ("tpmo", _liveliest)],
)
@pytest.mark.parametrize(("r", "b"), [((9,), (1,)), ((13, 9), (0, 2))])
def test_noise_of_the_frames_kept(
    prune: str, choose: Choose, r: tuple[int, ...], b: tuple[int, ...]
) -> None:
    case = replace(H2OT, prune=prune, r=r, b=b)
    taken = by_name(frame_noise.measure(case, CONTEXT))
    windows = MOTION.windows(F, limit=frame_noise.WINDOWS)
    kept, everywhere = [], []
    for window in windows:
        frames = list(range(F))
        everywhere.append(_noise(window, frames))
        for keep in r:
            frames = choose(window, frames, keep)
        kept.append(_noise(window, frames))
    assert taken["frame_noise_px"].values == pytest.approx(kept, rel=1e-5)
    assert taken["frame_noise_all_px"].values == pytest.approx(everywhere, rel=1e-5)
    assert {reading.unit for reading in taken.values()} == {"px"}
    assert taken["frame_noise_px"].protocol["windows"] == len(windows) == len(kept)


def test_without_pruning_all_frames_are_kept() -> None:
    taken = by_name(frame_noise.measure(BASE, CONTEXT))
    assert taken["frame_noise_px"].values == taken["frame_noise_all_px"].values


@pytest.mark.parametrize("prune", ["tpc", "tpa"])
def test_choices_that_depend_on_weights_have_no_noise(prune: str) -> None:
    nothing = MotionSource("none", "", lambda split: [], MOTION.noise)
    with pytest.raises(NotApplicable, match="depends on weights") as caught:
        frame_noise.measure(replace(HOT, prune=prune), Context(nothing))
    assert excuse(caught.value)["status"] == "skipped"


# --- training memory ---------------------------------------------------------------------------


def _training_peak(case: Case) -> int:
    (reading,) = training_memory.measure(case, CONTEXT)
    assert (reading.metric, reading.unit) == ("training_peak_estimated_bytes", "B")
    (peak,) = reading.values
    return int(peak)


def test_training_memory_grows_with_the_clip_and_shrinks_with_pruning() -> None:
    small = replace(BASE, frames=9, options=(("depth", 1), ("heads", 2), ("width", 128)))
    pruned = replace(small, prune="tps", recover="tri", r=(3,), b=(0,))
    centre = replace(pruned, recover=None, pipeline="seq2frame")
    rising = (centre, pruned, small, replace(small, frames=18))
    peaks = [_training_peak(case) for case in rising]
    assert peaks == sorted(set(peaks))
    # What does not double with the frames, at the peak within the backward pass: three float32
    # numbers per weight, itself and both moments of AdamW, and a gradient where there is one yet.
    per_weight = (2 * peaks[2] - peaks[3]) / _parameters(small)
    assert 12 <= per_weight < 16


def _parameters(case: Case) -> int:
    return sum(p.numel() for p in h2ot_core.build(**case.build_arguments()).parameters())


def test_training_memory_holds_weights_gradients_and_both_moments() -> None:
    # One short clip of a wide model: nearly all is weights. Four float32 numbers of each exist
    # when the optimiser steps.
    wide = replace(BASE, frames=3, options=(("depth", 1), ("heads", 2), ("width", 256)))
    floor = 16 * _parameters(wide)
    assert floor <= _training_peak(wide) < 1.3 * floor


# --- processes of their own --------------------------------------------------------------------


def test_memory_of_a_fresh_process() -> None:
    (reading,) = process_memory.measure(replace(BASE, threads=1), CONTEXT)
    assert (reading.metric, reading.unit) == (*METRICS["process_memory"].readings, "B")
    (peak,) = reading.values
    # PyTorch alone takes about 200 MiB, the model next to nothing.
    assert 2**26 < peak < 2**31
    assert reading.protocol["batch"] == 1


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script in the place of Python."""

    def install(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return install


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("kill -9 $$", "oom", "was killed, probably for want of memory"),
        ("exit 137", "oom", "was killed, probably for want of memory"),
        (
            "echo first >&2; echo 'torch.OutOfMemoryError: CUDA out of memory.' >&2; exit 1",
            "oom",
            r"CUDA out of memory\.",
        ),
        ("echo first >&2; echo 'ValueError: last' >&2; exit 1", "failed", "ValueError: last$"),
        ("exit 3", "failed", "no message"),
    ],
)
def test_how_a_process_may_end(
    interpreter: Callable[[str], None], script: str, status: str, reason: str
) -> None:
    interpreter(script)
    with pytest.raises(Failure, match=reason) as caught:
        isolated.call("some.module", BASE)
    assert caught.value.status == status


def test_a_process_that_takes_too_long(
    interpreter: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter("exec sleep 60")
    monkeypatch.setattr(isolated, "_TIMEOUT_S", 0.05)
    with pytest.raises(Failure, match="no answer within") as caught:
        isolated.call("some.module", BASE)
    assert caught.value.status == "timeout"


def test_request_and_answer_of_a_process(
    interpreter: Callable[[str], None], tmp_path: Path
) -> None:
    interpreter(
        f'echo "$@" > {tmp_path}/arguments; head -n 1 > {tmp_path}/input; echo noise; '
        "echo '{\"a\": 1}'"
    )
    assert isolated.call("some.module", BASE) == {"a": 1}
    assert (tmp_path / "arguments").read_text() == "-m some.module\n"
    request = json.loads((tmp_path / "input").read_text())
    assert (request["do"], Case.from_json(request["case"])) == ("measure", BASE)


@pytest.mark.parametrize("name", ["process_memory", "training_step"])
def test_a_case_of_a_device_that_is_not_there(name: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(Failure, match="no CUDA device") as caught:
        METRICS[name].measure(replace(BASE, device="cuda"), CONTEXT)
    assert caught.value.status == "skipped"
