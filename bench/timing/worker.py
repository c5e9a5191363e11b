"""In a fresh process: time the forward passes of one case on request.

Imports little, since every case starts one.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.models import plugins
from bench.models.build import measured_model
from bench.records.case import Case
from bench.timing import clock
from bench.timing.machine_state import state
from bench.workers.process import serve


class TimedCase:
    """A model on its device, with its inputs; :meth:`build` comes first."""

    def build(self, case: dict[str, Any], inputs: str, threads: int, flush: bool) -> dict[str, Any]:
        """Build the model and read the inputs.

        Args:
            case: as of ``Case.to_json``.
            inputs: a .npy file of (rounds, B, F, J, C_in) float32.
            threads: of the CPU.
            flush: whether the device's cache is emptied before every pass.

        Returns:
            ``facts``: how the case is measured, for the protocol of every record.
        """
        plugins.load_all()
        self.case = Case.from_json(case)
        torch.set_num_threads(threads)
        self.model = measured_model(self.case)
        dtype = getattr(torch, self.case.dtype)
        self.inputs = torch.from_numpy(np.load(inputs)).to(self.case.device, dtype)
        self.flush = clock.Flush(self.inputs.device) if flush else None
        facts = {
            "clock": "wall, synchronised",
            "mode": "inference_mode, eager",
            "process": "fresh",
            "threads": torch.get_num_threads(),
            "float32_matmul": torch.get_float32_matmul_precision(),
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
            "gomp_spincount": os.environ.get("GOMP_SPINCOUNT"),
            "flush_l2": flush,
        }
        return {"facts": facts}

    def trial(
        self, number: int, at_least_s: float, at_most: int, discarded: int = 0
    ) -> dict[str, Any]:
        """Measure samples.

        Args:
            number: of the round, which selects the input.
            at_least_s, at_most: as of :func:`bench.timing.clock.repeat`.
            discarded: passes before those that are measured.

        Returns:
            Reading to samples, and the state of the machine before and after.
        """
        x: Tensor = self.inputs[number % len(self.inputs)]
        before = state(self.case.device)
        with torch.inference_mode():
            for _ in range(discarded):
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
    timed = TimedCase()
    serve({"build": timed.build, "trial": timed.trial})
