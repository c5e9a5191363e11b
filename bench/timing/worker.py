"""In a fresh process: time the forward passes of one case, as it is asked to.

Reads one JSON line that says what to build, answers, then answers a request per line. Imports
little, since every case starts one.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

import h2ot_core
from bench.models import plugins
from bench.records.case import Case
from bench.records.status import excuse
from bench.timing import clock
from bench.timing.machine_state import state

SEED = 0  # of the weights


def main() -> None:
    """Answer on what was standard output; anything else that prints does so to stderr."""
    out, sys.stdout = sys.stdout, sys.stderr

    def answer(data: dict[str, Any]) -> None:
        out.write(json.dumps(data) + "\n")
        out.flush()

    try:
        bench = Bench(json.loads(sys.stdin.readline()))
        answer({"ready": True, "facts": bench.facts})
        for line in sys.stdin:
            answer(bench.visit(**json.loads(line)))
    except Exception as error:  # the parent records it and goes on with other cases
        answer(excuse(error))


class Bench:
    """A model on its device, with its inputs.

    Args:
        setup: ``case``; ``inputs``, a .npy file of (turns, B, F, J, C_in) float32; ``threads`` of
            the CPU; ``flush``, whether the device's cache is emptied before every pass.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        plugins.load_all()
        self.case = case = Case.from_json(setup["case"])
        torch.set_num_threads(setup["threads"])
        torch.manual_seed(SEED)
        dtype = getattr(torch, case.dtype)
        self.inputs = torch.from_numpy(np.load(setup["inputs"])).to(case.device, dtype)
        self.model = h2ot_core.build(**case.build_arguments()).eval().to(case.device, dtype)
        # The input was checked when it was made; searching it again would wait for a GPU.
        self.model.check_finite = case.device == "cpu"
        self.flush = clock.Flush(self.inputs.device) if setup["flush"] else None

    @property
    def facts(self) -> dict[str, Any]:
        """How it is measured, for the protocol of every record."""
        return {
            "clock": "wall, synchronised",
            "mode": "inference_mode, eager",
            "process": "fresh",
            "threads": torch.get_num_threads(),
            "float32_matmul": torch.get_float32_matmul_precision(),
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
            "gomp_spincount": os.environ.get("GOMP_SPINCOUNT"),
            "flush_l2": self.flush is not None,
        }

    def visit(self, *, turn: int, at_least_s: float, at_most: int, unheeded: int) -> dict[str, Any]:
        """Take samples.

        Args:
            turn: which input, by order.
            at_least_s, at_most: as of ``timing.repeat``.
            unheeded: passes before those that are taken.

        Returns:
            Reading to samples, and the state of the machine before and after.
        """
        x: Tensor = self.inputs[turn % len(self.inputs)]
        before = state(self.case.device)
        with torch.inference_mode():
            for _ in range(unheeded):
                self.model(x)
            samples = clock.repeat(
                lambda: clock.time_forward(self.model, x, flush=self.flush),
                at_least_s=at_least_s,
                at_most=at_most,
            )
        readings: dict[str, list[float]] = {
            "latency_s": [s.total_s for s in samples],
            "prune_s": [s.prune_s for s in samples],
            "recover_s": [s.recover_s for s in samples],
        }
        device = [s.device_s for s in samples if s.device_s is not None]
        if device:
            readings["device_s"] = device
        return {
            "readings": readings,
            "host_bound": clock.host_bound(samples),
            "before": before,
            "after": state(self.case.device),
        }


if __name__ == "__main__":
    main()
