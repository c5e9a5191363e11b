"""Runtimes: that they compute the same, and what is told of those that cannot be had."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.cli import main
from bench.data.windows import MotionSource
from bench.models import inputs as given
from bench.records import store
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.scenarios.runtimes import RUNTIMES, measure, onnx_session, torch_modes
from bench.scenarios.runtimes.base import NOT_FINITE, Runtime, Unavailable
from h2ot_core import Hourglass, build, load_published, weights
from reports import runtimes as reports_runtimes
from reports.build import build as build_report
from reports.runtimes import collect, speed_up

SMALL = {"frames": 27, "width": 16, "depth": 3, "heads": 2}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "none": {"host": "mixste", "scheme": "none"},
    "tps+tri": {"host": "mixste", "scheme": "h2ot", "r": (13, 9), "b": (0, 2)},
    "tpc+tra": {"host": "mixste", "scheme": "hot", "r": 9, "b": 1},
    "tpa+tri": {"host": "mixste", "prune": "tpa", "recover": "tri", "r": (13, 9), "b": (1, 2)},
    "tpmo+tra": {"host": "mixste", "prune": "tpmo", "recover": "tra", "r": (13, 9), "b": (0, 2)},
    "tps, seq2frame": {"host": "mixste", "scheme": "tpm", "r": (13, 9), "b": (0, 2)},
    "motionbert": {"host": "motionbert", "scheme": "hot", "r": 9, "b": 1},
    "motionagformer": {"host": "motionagformer", "scheme": "h2ot", "r": (13, 9), "b": (0, 1)},
    "mhformer": {"host": "mhformer", "scheme": "tpc", "r": 9, "b": 1},
}
needs_onnx = pytest.mark.skipif(
    bool(onnx_session.available("cpu")), reason=onnx_session.available("cpu") or "installed"
)


@pytest.fixture(scope="module")
def motion() -> MotionSource:
    return MotionSource.generated(frames=60)


@pytest.fixture
def made(motion: MotionSource) -> Callable[..., tuple[Hourglass, list[torch.Tensor]]]:
    """A model with drawn weights and windows of motion."""

    def make(name: str, batch: int = 1) -> tuple[Hourglass, list[torch.Tensor]]:
        model = build(**{**SMALL, **CONFIGURATIONS[name]}).eval()
        load_published(model, given.weights(model))
        windows = given.inputs(model, motion, batch)
        return model, [x for key, x in sorted(windows.items()) if key != "noise"]

    return make


Made = Callable[..., tuple[Hourglass, list[torch.Tensor]]]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def test_the_first_runtime_is_the_reference() -> None:
    assert next(iter(RUNTIMES)) == measure.REFERENCE


@pytest.mark.parametrize("name", ["cuda_graph", "tf32", "fp16", "compile_cuda_graph_fp16"])
def test_what_needs_a_gpu_says_so(name: str) -> None:
    assert RUNTIMES[name].available("cpu") == "needs a CUDA device"


def test_onnx_is_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert onnx_session.available("cpu") == ""
    assert "CPU alone" in onnx_session.available("cuda")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -e '.[onnx]'" in onnx_session.available("cpu")


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_modes.shutil, "which", lambda name: None)
    assert "no C++ compiler" in RUNTIMES["compile"].available("cpu")


def test_bf16_computes_in_bfloat16_and_leaves_the_model(made: Made) -> None:
    model, inputs = made("none")
    call = RUNTIMES["bf16"].prepare(model, inputs[0])
    with torch.inference_mode():
        y, expected = call(inputs[1]), model(inputs[1])
    assert y.dtype == torch.float32
    assert torch.equal(y, y.to(torch.bfloat16).float())
    assert 1e-5 < apart(y, expected) < 0.1
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_onnx_agrees_at_any_batch_size(name: str, made: Made) -> None:
    model, inputs = made(name)
    call = RUNTIMES["onnx"].prepare(model, inputs[0])
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 2, 3):
        # Not motion: its frames are so alike that rounding may decide which are kept or joined.
        x = torch.rand((batch, *inputs[0].shape[1:]), generator=generator) * 2 - 1
        with torch.inference_mode():
            assert apart(call(x), model(x)) < 1e-4
    assert all(p.requires_grad for p in model.parameters())


@needs_onnx
def test_what_cannot_be_exported_is_named(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = made("tps+tri")
    monkeypatch.setattr(Hourglass, "forward", lambda self, x: x.sort(dim=1, stable=True).values)
    monkeypatch.setattr(onnx_session, "_translations", dict)
    with pytest.raises(Unavailable, match=r"cannot be exported to ONNX: .*sort"):
        RUNTIMES["onnx"].prepare(model, inputs[0])


@pytest.mark.slow
@pytest.mark.skipif(
    bool(torch_modes.can_compile("cpu")), reason=torch_modes.can_compile("cpu") or "there"
)
@pytest.mark.parametrize("name", ["tps+tri", "tpc+tra"])
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
def test_compiled_agrees(name: str, made: Made) -> None:
    model, inputs = made(name)
    call = RUNTIMES["compile"].prepare(model, inputs[0])
    with torch.inference_mode():
        assert apart(call(inputs[1]), model(inputs[1])) < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["tps+tri", "tpc+tra"])
@pytest.mark.parametrize(
    "runtime",
    ["compile", "cuda_graph", "tf32", "fp16", "cuda_graph_fp16", "compile_cuda_graph_fp16"],
)
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
def test_on_a_gpu(name: str, runtime: str, made: Made) -> None:
    model, inputs = made(name)
    model.to("cuda").check_finite = False
    call = RUNTIMES[runtime].prepare(model, inputs[0].cuda())
    torch.cuda.empty_cache()  # what a call keeps alive is not in it
    torch.full((2**26,), torch.nan, device="cuda")
    exact = {"compile": 1e-4, "cuda_graph": 1e-5}
    with torch.inference_mode():
        for x in (inputs[1].cuda(), inputs[2].cuda()):
            assert apart(call(x), model(x)) < exact.get(runtime, 0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["motionbert", "motionagformer", "mhformer"])
def test_other_hosts_recorded_on_a_gpu(name: str, made: Made) -> None:
    model, inputs = made(name)
    model.to("cuda").check_finite = False
    call = RUNTIMES["cuda_graph"].prepare(model, inputs[0].cuda())
    with torch.inference_mode():
        for x in (inputs[1].cuda(), inputs[2].cuda()):
            assert apart(call(x), model(x)) < 1e-5


# --- measuring ---------------------------------------------------------------------------------

CASE = Case(
    host="mixste", frames=27, prune="tps", recover="tri", r=(13, 9), b=(0, 2),
    options=(("depth", 3), ("heads", 2), ("width", 16)),
)  # fmt: skip


def test_drift_is_the_distance_of_joints() -> None:
    reference = [torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)]
    poses = [torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)]
    poses[1][0, 1, 1] = torch.tensor([0.003, 0.0, 0.004])
    mean, worst = measure.drift_mm(poses, reference, 2.0)
    assert worst == pytest.approx(10.0)
    assert mean == pytest.approx(10.0 / 8)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runtimes whose drift and failures are known; notes each preparation."""
    prepared: list[str] = []

    def moved(model: Hourglass, example: torch.Tensor) -> Any:
        prepared.append("moved")
        return lambda x: model(x) * 1.001

    def broken(model: Hourglass, example: torch.Tensor) -> Any:
        prepared.append("broken")
        raise RuntimeError("no such luck\nmore")

    never: Any = None
    table = {
        "eager": RUNTIMES["eager"],
        "moved": Runtime(title="moved", available=lambda d: "", prepare=moved),
        "broken": Runtime(title="broken", available=lambda d: "", prepare=broken),
        "absent": Runtime(title="absent", available=lambda d: "not today", prepare=never),
    }
    monkeypatch.setattr(measure, "RUNTIMES", table)
    return prepared


def job(motion: MotionSource, rounds: int) -> measure.Job:
    names = ("moved", "broken", "absent")
    return measure.Job(cases=[CASE], motion=motion, runtimes=names, rounds=rounds)


def test_every_runtime_is_told_of(
    stand_ins: list[str], motion: MotionSource, tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    measure.run(job(motion, 2), path, quiet=True)
    found = {r.group.partition("@")[0]: [] for r in store.read(path)}
    for r in store.read(path):
        found[r.group.partition("@")[0]].append(r)
    assert [r.metric for r in found["eager"]] == [measure.DRIFT] + [measure.LATENCY] * 2
    assert found["eager"][0].values == (0.0, 0.0)
    drift = found["moved"][0]
    assert drift.labels == ("mean", "max")
    # A person's joints lie decimetres from the middle, of which this is a thousandth.
    assert 0.1 < drift.values[0] < drift.values[1] < 5
    assert [(r.status, r.reason) for r in found["broken"]] == [("failed", "no such luck")]
    assert [(r.status, r.reason) for r in found["absent"]] == [("skipped", "not today")]

    before = path.read_bytes()
    measure.run(job(motion, 2), path, quiet=True)
    assert path.read_bytes() == before
    assert stand_ins == ["moved", "broken"]

    report = build_report(path, tmp_path / "out").read_text()
    assert "## Runtimes" in report
    assert "failed: no such luck" in report
    assert (tmp_path / "out/runtimes.csv").read_text().count("\n") == 5


def test_errors_with_weights_of_ones_own(
    stand_ins: list[str], motion: MotionSource, tmp_path: Path
) -> None:
    model = build(**CASE.build_arguments())
    load_published(model, given.weights(model))
    weights.save(model, tmp_path / "own.safetensors")
    path = tmp_path / "records.jsonl"
    own = replace(job(motion, 1), weights=tmp_path / "own.safetensors")
    measure.run(own, path, quiet=True)
    errors = {
        r.group.partition("@")[0]: r.values[0]
        for r in store.read(path)
        if r.metric == measure.ERROR
    }
    windows = motion.windows(CASE.frames, limit=8)
    targets = torch.stack([torch.from_numpy(w.target.copy()) for w in windows])
    x = torch.stack([torch.from_numpy(w.input.copy()) for w in windows])
    with torch.no_grad():
        y = model.eval()(x)
    y = y - y[:, :, :1]
    for name, factor in (("eager", 1.0), ("moved", 1.001)):
        wanted = 1000 * (factor * y - targets).norm(dim=-1).mean()
        assert errors[name] == pytest.approx(float(wanted), rel=1e-5)
    report = build_report(path, tmp_path / "out").read_text()
    assert f"{errors['moved'] - errors['eager']:+.3f}" in report


def test_what_pruning_gains_stands_beside_what_is_implied(
    stand_ins: list[str], motion: MotionSource, tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    both = replace(job(motion, 6), cases=[CASE, CASE.baseline])
    measure.run(both, path, quiet=True)
    sheet = reports_runtimes.section(store.read(path), tmp_path)
    table = pd.read_csv(tmp_path / "runtimes.csv").set_index(["configuration", "runtime"])
    assert len(sheet) == 4
    row = table.loc[CASE.label, "eager"]
    flops = {r.case: r.values[0] for r in store.read(path) if r.metric == "flops_full"}
    implied = flops[CASE.baseline] / flops[CASE]
    assert row["implied by FLOPs"] == pytest.approx(implied, abs=0.01)
    gained = float(row["speed-up over no pruning"].split()[0])
    assert float(row["share of implied"].rstrip("%")) == pytest.approx(
        100 * gained / implied, abs=1
    )
    assert pd.isna(table.loc[CASE.baseline.label, "eager"]["share of implied"])


def test_what_fails_in_the_rounds_is_left_and_the_others_go_on(
    stand_ins: list[str], motion: MotionSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def tiring(model: Hourglass, example: torch.Tensor) -> Any:
        def call(x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls > 8:  # the outputs of all inputs were looked at
                raise torch.OutOfMemoryError("no more")
            return model(x)

        return call

    monkeypatch.setitem(
        measure.RUNTIMES, "tiring", Runtime(title="", available=lambda d: "", prepare=tiring)
    )
    path = tmp_path / "records.jsonl"
    tired = replace(job(motion, 3), runtimes=("tiring", "moved"))
    measure.run(tired, path, quiet=True)
    found = [
        (r.group.partition("@")[0], r.status)
        for r in store.read(path)
        if r.metric == measure.LATENCY
    ]
    assert found.count(("moved", "ok")) == found.count(("eager", "ok")) == 3
    assert found.count(("tiring", "oom")) == 1
    before = path.read_bytes()
    measure.run(tired, path, quiet=True)
    assert path.read_bytes() == before


def test_without_the_reference_nothing_is_compared(
    stand_ins: list[str], motion: MotionSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(measure.RUNTIMES, "eager", measure.RUNTIMES["broken"])
    path = tmp_path / "records.jsonl"
    measure.run(job(motion, 1), path, quiet=True)
    reasons = {r.group.partition("@")[0]: r.reason for r in store.read(path) if r.group}
    assert reasons.pop("eager") == "no such luck"
    assert set(reasons.values()) == {"eager did not run, with which it is compared"}


def test_output_that_is_not_finite_is_not_timed(
    stand_ins: list[str], motion: MotionSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beyond(model: Hourglass, example: torch.Tensor) -> Any:
        return lambda x: model(x) * torch.inf

    monkeypatch.setitem(
        measure.RUNTIMES, "moved", Runtime(title="", available=lambda d: "", prepare=beyond)
    )
    path = tmp_path / "records.jsonl"
    measure.run(job(motion, 1), path, quiet=True)
    (one,) = [r for r in store.read(path) if r.group.startswith("moved")]
    assert (one.status, one.reason) == ("skipped", NOT_FINITE)


def test_a_group_within_a_later_one_is_left_out() -> None:
    base = replace(CASE.baseline, device="cpu")
    first = [record("eager", 0, 1.0, tag="t"), record("bf16", 0, 1.0, tag="t")]
    other = replace(record("eager", 0, 2.0, tag="u"), case=base)
    both = [record("eager", 0, 2.0, tag="u"), other]
    assert [set(group) for group in collect([*first, *both])] == [{CASE, base}]
    # A group that is taken up again is the later one.
    again = record("eager", 1, 1.0, tag="t")
    assert [set(group) for group in collect([*first, *both, again])] == [{CASE, base}, {CASE}]


def record(name: str, part: int, *values: float, session: str = "one", tag: str = "t") -> Record:
    return Record(
        case=CASE, metric=measure.LATENCY, unit="s", values=values, group=f"{name}@{tag}",
        part=part, session=session,
    )  # fmt: skip


def test_speed_up_pairs_turns_of_one_session() -> None:
    records = [record("eager", i, 2.0 + i) for i in range(3)]
    records += [record("onnx", i, 1.0 + i / 2) for i in range(2)]
    records += [record("onnx", 2, 9.0, session="another"), record("old", 0, 1.0, tag="u")]
    records = [records[-1], *records[:-1]]
    *_, group = collect(records)
    by_name = group[CASE]
    ratio = speed_up(by_name["onnx"], by_name["eager"])
    assert ratio is not None
    assert (ratio.value, ratio.n) == (pytest.approx(2.0), 2)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records.jsonl"
    sizes = "--frames 27 --option width=16 --option heads=2 --option depth=3 --r 13 9 --b 0 2"
    command = f"runtimes --host mixste {sizes} --runtime bf16 tf32 --rounds 1 --threads 1"
    assert main([*command.split(), "--store", str(path)]) == 0
    records = store.read(path)
    names = [(r.metric, r.group.partition("@")[0], r.status) for r in records]
    assert (measure.DRIFT, "tf32", "skipped") in names
    assert (measure.LATENCY, "bf16", "ok") in names
    with pytest.raises(SystemExit, match="2"):
        main(["runtimes", "--rounds", "0", "--store", str(path)])
    assert "--rounds: must be at least 1" in capsys.readouterr().err


def test_what_is_refused(motion: MotionSource, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with pytest.raises(UsageError, match="no runtime 'jit'; there are eager, packed"):
        measure.run(measure.Job(cases=[CASE], motion=motion, runtimes=["jit"]), path)
    low = replace(CASE, dtype="bfloat16")
    with pytest.raises(UsageError, match="start from float32 models, got dtype 'bfloat16'"):
        measure.run(measure.Job(cases=[low], motion=motion), path)
