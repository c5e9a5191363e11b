"""Metrics of one case at a time: one file each, one row each in METRICS.

Latency is not among them: it is measured on many cases in turn, see ``bench.timing.interleaved``.
"""

from __future__ import annotations

from bench.metrics import counts, frame_noise, process_memory, training_step
from bench.metrics.base import Metric, Reading
from bench.models.context import Context
from bench.records.case import Case


def _training_memory(case: Case, context: Context) -> list[Reading]:
    from bench.metrics import training_memory  # the tracker takes a second to import

    return training_memory.measure(case, context)


METRICS: dict[str, Metric] = {
    "counts": Metric(
        "parameters and FLOPs",
        (
            "param_count",
            "flops_paper",
            "flops_full",
            "flops_full_by_kind",
            "flops_full_by_section",
            "flops_full_by_module",
            "operator_calls",
        ),
        counts.measure,
    ),
    "frame_noise": Metric(
        "frame noise", ("frame_noise_px", "frame_noise_all_px"), frame_noise.measure
    ),
    "training_memory": Metric(
        "estimated training memory",
        ("training_peak_estimated_bytes",),
        _training_memory,
        of="trainable",
    ),
    "process_memory": Metric(
        "inference memory",
        ("inference_process_peak_bytes",),
        process_memory.measure,
        of="timed",
        at_once=2,
    ),
    "training_step": Metric(
        "training steps",
        ("training_step_s", "training_epoch_min"),
        training_step.measure,
        of="training",
    ),
}
