"""Where a forward pass spends its time, operator by operator, as PyTorch's profiler sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import h2ot_core

_PRODUCTS = (
    "aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "mkldnn::_linear_pointwise",
    "mkldnn::_convolution_pointwise", "aten::mkldnn_convolution", "aten::_slow_conv2d_forward",
    "aten::cudnn_convolution", "aten::_cdist_forward", "aten::_euclidean_dist",
)  # fmt: skip
# By the operator itself or, on a GPU, by that which starts its kernel.
_ATTENTION = (
    "_scaled_dot_product", "_efficient_attention", "_flash_attention", "_cudnn_attention",
    "aten::_softmax",
)  # fmt: skip
_WARMUP = 3


@dataclass(frozen=True)
class Shares:
    """Time of an operator itself, without what it calls, as a share of all.

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
        with profile(activities=activities, acc_events=True) as taken:
            for _ in range(passes):
                model(x)
    spent: Counter[str] = Counter()
    for event in taken.key_averages():
        if event.device_type.name != "CPU":
            continue  # a kernel, whose time is that of the operator that started it
        if on_cuda and "::" not in event.key:
            continue  # the driver's own doings
        us = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        spent[event.key] += us
    total = sum(spent.values())
    operators = [(kind_of(name), name, us / total) for name, us in spent.most_common() if us > 0]
    sums = {
        kind: sum(share for found, _, share in operators if found == kind)
        for kind in ("product", "attention", "rest")
    }
    return Shares(sums["product"], sums["attention"], sums["rest"], operators, total / 1e6 / passes)
