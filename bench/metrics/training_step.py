"""Time and memory of real training steps at the paper's batch size, in a process of their own."""

from __future__ import annotations

from statistics import median
from typing import Any

from bench.metrics import memory
from bench.metrics.base import NotApplicable, Reading
from bench.models.context import Context
from bench.records.case import Case
from bench.workers import isolated
from h2ot_core import HOSTS

BATCH = 4  # Table 1
_WARMUP, _STEPS = {"cpu": 1, "cuda": 5}, {"cpu": 2, "cuda": 20}
# Human3.6M's training split: frames over all cameras.
_FRAMES = 1_559_752


def measure(case: Case, context: Context) -> list[Reading]:
    """Forward, loss, backward and AdamW step at batch 4 in float32.

    Raises:
        NotApplicable: for MHFormer, which the paper trains at batch 210.
        bench.records.status.Failure: as :func:`bench.workers.isolated.call`.
    """
    epoch = HOSTS[case.host].epoch
    if epoch is None:
        raise NotApplicable(f"the paper does not train {case.host} at batch {BATCH}")
    measured = isolated.call("bench.metrics.training_step", case)
    stride, copies = epoch
    steps = _FRAMES // stride * copies // BATCH
    protocol = {
        "batch": BATCH,
        "precision": "float32",
        "warmup": _WARMUP[case.device],
        "steps_per_epoch": steps,
        "epoch": f"{_FRAMES} frames of Human3.6M, clips every {stride}, {copies}x, batch {BATCH}",
    }
    seconds = measured.pop("training_step_s")
    readings = [
        Reading(metric="training_step_s", unit="s", values=tuple(seconds), protocol=protocol),
        Reading(
            metric="training_epoch_min",
            unit="min",
            values=(median(seconds) * steps / 60,),
            protocol=protocol,
        ),
    ]
    readings += [
        Reading(metric=name, unit="B", values=(value,), protocol=protocol)
        for name, value in measured.items()
    ]
    return readings


def worker(case: Case) -> dict[str, Any]:
    """In the fresh process: some steps on random input."""
    import torch

    from bench.models.build import measured_model
    from bench.timing import clock
    from h2ot_core.losses import loss_of

    device = torch.device(case.device)
    model = measured_model(case, training=True)
    host, loss = model.host, loss_of(case.host)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-5, weight_decay=0.1)
    x = torch.randn(BATCH, host.frames, host.joints, host.channels, device=device)
    target = torch.randn(BATCH, host.frames, host.joints, 3, device=device) * 0.3

    def step() -> None:
        output = model.run(x)
        if case.pipeline == "seq2seq":
            value = loss(output.poses, target)
        else:  # on the kept frames, as published
            kept = output.selections[-1].gather(target) if output.selections else target
            value = loss(output.kept, kept)
        value.backward()
        optimiser.step()
        optimiser.zero_grad()

    for _ in range(_WARMUP[case.device]):
        step()
    if case.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    memory.forget_peak()
    seconds = [clock.time_call(step, device) for _ in range(_STEPS[case.device])]
    measured: dict[str, Any] = {"training_step_s": seconds}
    if case.device == "cuda":
        measured["training_allocated_peak_bytes"] = torch.cuda.max_memory_allocated()
        measured["training_reserved_peak_bytes"] = torch.cuda.max_memory_reserved()
        measured["training_device_process_bytes"] = memory.device_process_bytes()
    else:
        measured["training_process_peak_bytes"] = memory.peak()
    return measured


if __name__ == "__main__":
    isolated.answer(worker)
