"""In a fresh process: measure what one ``h2ot_core`` does. Started by the gate alone.

``counts`` and ``memory`` read cases as one JSON list and write a record per line. ``sampled``
reads one line of JSON with what to build, then a request per line, and answers each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import torch

import h2ot_core
from bench.models import build
from bench.records.case import Case
from bench.records.record import Record
from bench.timing import clock

SEED = 0  # of weights and input, the same for every process


def main() -> None:
    """Answer on what was standard output; anything else that prints does so to stderr."""
    out, sys.stdout = sys.stdout, sys.stderr
    kind, root = sys.argv[1:3]
    found = Path(h2ot_core.__file__).resolve().parents[1]
    if found != Path(root).resolve():
        raise SystemExit(f"h2ot_core was found in {found}, not in {root}")
    if kind == "sampled":
        _sampled(sys.stdin, out)
        return
    cases = [Case.from_json(data) for data in json.load(sys.stdin)]
    measure = {"counts": _counts, "memory": _memory}[kind]
    for case in cases:
        for record in measure(case):
            print(json.dumps(record.to_json()), file=out, flush=True)


def _counts(case: Case) -> Iterator[Record]:
    from bench.metrics import flop_counters

    names = {"param_count": "1", "flops_paper": "flop", "flops_full": "flop", "operator_calls": "1"}
    try:
        model, x = build.blank_model(case.build_arguments())
        count = flop_counters.count(model, x)
    except Exception as error:  # whatever it is, the other cases are counted
        for name in names:
            yield Record(case=case, metric=name, unit="", values=(), **_excuse(error))
        return
    values = {
        "param_count": (sum(p.numel() for p in model.parameters()),),
        "flops_paper": (count.flops_paper,),
        "flops_full": (count.flops_full,),
    }
    for name, value in values.items():
        yield Record(case=case, metric=name, unit=names[name], values=value)
    calls = sorted(count.calls.items())
    yield Record(
        case=case, metric="operator_calls", unit="1", values=tuple(n for _, n in calls),
        labels=tuple(name for name, _ in calls),
    )  # fmt: skip


def _memory(case: Case) -> Iterator[Record]:
    from bench.metrics import training_memory

    try:
        readings = training_memory.peak(case)
    except Exception as error:  # as above
        name = "training_peak_estimated_bytes"
        yield Record(case=case, metric=name, unit="", values=(), **_excuse(error))
        return
    for reading in readings:
        yield Record(
            case=case, metric=reading.metric, unit=reading.unit, values=reading.values,
            protocol=reading.protocol,
        )  # fmt: skip


def _sampled(requests: TextIO, out: TextIO) -> None:
    setup = json.loads(requests.readline())
    cases = [Case.from_json(data) for data in setup["cases"]]
    ready: dict[int, Callable[[], float]] = {}

    def answer(data: dict[str, Any]) -> None:
        print(json.dumps(data), file=out, flush=True)

    answer({"ready": True})
    for line in requests:
        request = json.loads(line)
        number = request["case"]
        try:
            if number not in ready:
                ready[number] = _pass(cases[number], setup["slowdown"])
            answer({"seconds": [ready[number]() for _ in range(request["passes"])]})
        except Exception as error:  # the case fails, the process goes on
            answer(_excuse(error))


def _excuse(error: Exception) -> dict[str, Any]:
    # Imported where it is needed: with all metrics it takes longer than everything else here.
    from bench.metrics.base import excuse

    return excuse(error)


def _pass(case: Case, slowdown: float) -> Callable[[], float]:
    """One timed forward pass, in seconds, of a model built here."""
    if case.threads:
        torch.set_num_threads(case.threads)
    torch.manual_seed(SEED)
    model = h2ot_core.build(**case.build_arguments()).eval()
    model = model.to(case.device, getattr(torch, case.dtype))
    host = model.host
    x = torch.rand(case.batch, host.frames, host.joints, host.channels) * 2 - 1
    x = x.to(case.device, getattr(torch, case.dtype))
    if slowdown:
        model.forward = clock.slowed(model.forward, slowdown)  # type: ignore[method-assign]

    def once() -> float:
        with torch.inference_mode():
            return clock.time_call(lambda: model(x), x.device)

    return once


if __name__ == "__main__":
    main()
