"""Estimated peak memory of a training step, from tensors that hold no values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

import h2ot_core
from bench.metrics.base import Reading
from bench.models.build import measured_model
from bench.models.context import Context
from bench.models.torch_private import fake_tensors, tracked_memory
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


def measure(case: Case, context: Context) -> list[Reading]:
    """As :func:`peak`, which needs no context."""
    return peak(case)


def of_step(
    trained: nn.Module, x: Tensor, target: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> int:
    """Peak bytes of a training step with AdamW; all within one :func:`fake_tensors`.

    Raises:
        NotApplicable: where PyTorch cannot track it.
    """
    optimiser = torch.optim.AdamW(trained.parameters())
    for parameter in trained.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # its state exists from the second step on, which is the one to measure
    optimiser.zero_grad()
    with tracked_memory(trained, optimiser, x, target) as peaks:
        loss(trained(x), target).backward()
        optimiser.step()
        optimiser.zero_grad()
    return peaks[x.device.type]  # the CPU has one too, where x is elsewhere


def peak(case: Case) -> list[Reading]:
    """Peak bytes of forward, loss, backward and AdamW step at batch 4 in float32.

    Every storage that autograd and the optimiser hold is tracked as the step runs on fake
    tensors; fused attention, no allocator overhead, no workspace of kernels. A lower bound of
    what a GPU needs.
    """
    with fake_tensors():
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
