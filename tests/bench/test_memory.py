"""Peak memory of a fresh process: its four kinds, and an allocation of known size in each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.data.windows import MotionSource
from bench.metrics import METRICS, process_memory
from bench.metrics.process_memory import KINDS
from bench.models.context import Context
from bench.records.case import Case
from bench.workers import isolated

ROOT = Path(__file__).resolve().parents[2]
CASE = Case(host="mixste", frames=9, options=(("depth", 1), ("heads", 2), ("width", 16)), threads=1)
CONTEXT = Context(MotionSource("none", "", lambda split: [], None))  # type: ignore[arg-type]
GIB = 2**30

# The worker as it is, on a model that allocates and fills so many bytes as its forward pass begins,
# and keeps them: given back, they would make room for what kernels take as their workspace.
PLANTED = """
import json, sys
import torch
import h2ot_core
from bench.records.case import Case
from bench.metrics import process_memory

build, size = h2ot_core.build, int(sys.argv[1])

def planted(**arguments):
    model = build(**arguments)
    def plant(module, inputs):
        module.planted = torch.ones(size // 4, dtype=torch.float32, device=inputs[0].device)
    if size:
        model.register_forward_pre_hook(plant)
    return model

h2ot_core.build = planted
print(json.dumps(process_memory.worker(Case.from_json(json.loads(sys.argv[2])))))
"""


def planted(size: int, case: Case) -> dict[str, Any]:
    """The worker's answer, in a fresh process, with so many bytes more."""
    done = subprocess.run(
        [sys.executable, "-c", PLANTED, str(size), json.dumps(case.to_json())],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peaks as Linux tells them")
def test_a_planted_gibibyte_reads_as_one_in_the_process() -> None:
    # Within one process: what two of them need beside it differs by tens of megabytes.
    answer = isolated.call("bench.scenarios.self_check_memory", CASE)
    if not answer["reset"]:
        pytest.skip("the kernel does not let a process forget its peak")
    assert answer["grown"]["process"] == pytest.approx(GIB, rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_planted_gibibyte_reads_as_one_on_the_device() -> None:
    case = Case(**{**vars(CASE), "device": "cuda"})
    without, with_it = planted(0, case), planted(GIB, case)
    assert set(without) == {*KINDS, "scope", "device_source"}
    for name in KINDS:
        if name != "inference_process_peak_bytes":
            assert with_it[name] - without[name] == pytest.approx(GIB, rel=0.02), name
    allocated, reserved, device = (
        with_it[f"inference_{kind}_peak_bytes"] for kind in ("allocated", "reserved", "device")
    )
    assert allocated <= reserved <= device


def test_a_gpus_four_kinds_are_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {name: 1000 + i for i, name in enumerate(KINDS)}
    answer |= {"scope": "forward pass", "device_source": "NVML, this process"}  # type: ignore[dict-item]
    monkeypatch.setattr(isolated, "call", lambda module, case: dict(answer))
    readings = process_memory.measure(Case(**{**vars(CASE), "device": "cuda"}), CONTEXT)
    assert {r.metric: r.values for r in readings} == {n: (answer[n],) for n in KINDS}
    assert {r.unit for r in readings} == {"B"}
    assert {r.metric: r.protocol["memory"] for r in readings} == KINDS
    sources = {r.metric: r.protocol.get("device_source") for r in readings}
    assert [n for n, told in sources.items() if told] == ["inference_device_peak_bytes"]


def test_a_cpu_has_the_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"inference_process_peak_bytes": 7, "scope": "whole process"}
    monkeypatch.setattr(isolated, "call", lambda module, case: dict(answer))
    (reading,) = process_memory.measure(CASE, CONTEXT)
    # What a sweep waits for: more would make it measure a CPU's case again and again.
    assert (reading.metric,) == METRICS["process_memory"].readings
    assert reading.protocol["memory"] == KINDS[reading.metric]
    assert reading.protocol["scope"] == "whole process"
    assert "device_source" not in reading.protocol
