"""Where a forward pass spends its time, operator by operator, as PyTorch's profiler sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import h2ot_core
from bench.data.windows import MotionSource
from bench.models import inputs
from bench.models.build import measured_model
from bench.records.case import Case
from bench.records.session import require_device, set_threads

_PRODUCTS = (
    "aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "mkldnn::_linear_pointwise",
    "mkldnn::_convolution_pointwise", "aten::mkldnn_convolution", "aten::_slow_conv2d_forward",
    "aten::cudnn_convolution", "aten::_cdist_forward", "aten::_euclidean_dist",
)  # fmt: skip
# Names of operators; on a GPU a kernel counts as the operator that starts it.
_ATTENTION = (
    "_scaled_dot_product", "_efficient_attention", "_flash_attention", "_cudnn_attention",
    "aten::_softmax",
)  # fmt: skip
_WARMUP = 3


@dataclass(frozen=True)
class Shares:
    """Self time of operators, without what they call, as shares of the total.

    Attributes:
        products, attention, rest: sums by kind; they add up to 1.
        operators: (kind, operator, share), the largest first.
        seconds: of one pass, under the profiler.
    """

    products: float
    attention: float
    rest: float
    operators: list[tuple[str, str, float]] = field(repr=False)
    seconds: float


def kind_of(operator: str) -> str:
    """What an operator is: "product", "attention" or "rest"."""
    if any(name in operator for name in _ATTENTION):
        return "attention"
    return "product" if operator in _PRODUCTS else "rest"


def run(case: Case, motion: MotionSource, *, passes: int = 5) -> Shares:
    """Profile a case on real motion, with weights drawn by the rule of ``bench.models.inputs``.

    Raises:
        bench.records.errors.UsageError: if the device is not there, or the motion is too short.
    """
    require_device(case.device)
    set_threads(case.threads)
    model = measured_model(case, weights="rule")
    batches = inputs.inputs(model, motion, case.batch)
    x = next(value for name, value in sorted(batches.items()) if name != "noise")
    return shares(model, x.to(case.device), passes=passes)


def shares(model: h2ot_core.Hourglass, x: Tensor, *, passes: int = 5) -> Shares:
    """Profile forward passes.

    Args:
        model: in evaluation mode, on the device of x.
        x: (B, F, J, C_in).
        passes: forward passes to add up, after some to warm up.
    """
    on_cuda = x.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with torch.inference_mode():
        for _ in range(_WARMUP):
            model(x)
        with profile(activities=activities, acc_events=True) as profiled:
            for _ in range(passes):
                model(x)
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        if event.device_type.name != "CPU":
            continue  # a kernel, whose time is that of the operator that started it
        if on_cuda and "::" not in event.key:
            continue  # work of the driver
        us = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        spent[event.key] += us
    total = sum(spent.values())
    operators = [(kind_of(name), name, us / total) for name, us in spent.most_common() if us > 0]
    sums = {
        kind: sum(share for found, _, share in operators if found == kind)
        for kind in ("product", "attention", "rest")
    }
    return Shares(sums["product"], sums["attention"], sums["rest"], operators, total / 1e6 / passes)
