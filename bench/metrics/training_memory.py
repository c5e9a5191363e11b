"""Estimated peak memory of a training step, from tensors that hold no values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

import h2ot_core
from bench.metrics.base import Reading
from bench.models.build import measured_model
from bench.models.context import Context
from bench.records.case import Case
from h2ot_core.losses import loss_of

BATCH = 4  # Table 1


class _Trained(nn.Module):
    """A model whose output is what it is trained on; the tracker follows calls of modules only."""

    def __init__(self, model: h2ot_core.Hourglass) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Poses of all frames for seq2seq, of the kept frames for seq2frame."""
        output = self.model.run(x)
        return output.poses if self.model.config.pipeline == "seq2seq" else output.kept


class _Tracker(MemTracker):
    """Keeps only the peak of the step.

    The peaks of every module, which nothing here reads, are most of the work: a copy per operator
    and active module, minutes for a deep host. In a release without these private names the
    tracker works as it is, only slower.
    """

    def _update_peak_stats(self, peak_state: Any) -> None:
        if not all(hasattr(self, name) for name in ("_curr_mem_snap", "_peak_mem_snap")):
            super()._update_peak_stats(peak_state)
            return
        for device, now in self._curr_mem_snap.items():
            if self._peak_mem.get(device, 0) < now["Total"]:
                self._peak_mem[device] = now["Total"]
                self._peak_mem_snap[device] = dict(now)


def measure(case: Case, context: Context) -> list[Reading]:
    """As :func:`peak`, which needs no context."""
    return peak(case)


def of_step(
    trained: nn.Module, x: Tensor, target: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> int:
    """Peak bytes of a training step with AdamW; all within one ``FakeTensorMode``."""
    optimiser = torch.optim.AdamW(trained.parameters())
    for parameter in trained.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # its state exists from the second step on, which is the one to measure
    optimiser.zero_grad()
    tracker = _Tracker()
    tracker.track_external(trained, optimiser, x, target)
    with tracker:
        loss(trained(x), target).backward()
        optimiser.step()
        optimiser.zero_grad()
    snapshots = tracker.get_tracker_snapshot("peak")  # of the CPU too, where x is elsewhere
    snapshot = next(s for device, s in snapshots.items() if device.type == x.device.type)
    return next(size for name, size in snapshot.items() if str(name) == "Total")


def peak(case: Case) -> list[Reading]:
    """Peak bytes of forward, loss, backward and AdamW step at batch 4 in float32.

    Every storage that autograd and the optimiser hold is tracked as the step runs on fake
    tensors; fused attention, no allocator overhead, no workspace of kernels. A lower bound of
    what a GPU needs.
    """
    with FakeTensorMode():
        model = measured_model(replace(case, device="cpu"), training=True)
        trained = _Trained(model)
        host = model.host
        loss = loss_of(case.host)
        x = torch.empty(BATCH, host.frames, host.joints, host.channels)
        # Seq2frame trains on the kept frames, as published, not on the centre alone.
        frames = host.frames if case.pipeline == "seq2seq" else model.schedule.kept
        total = of_step(trained, x, torch.empty(BATCH, frames, host.joints, 3), loss)
    return [
        Reading(
            metric="training_peak_estimated_bytes",
            unit="B",
            values=(total,),
            protocol={"batch": BATCH, "precision": "float32", "tracker": "torch MemTracker"},
        )
    ]
