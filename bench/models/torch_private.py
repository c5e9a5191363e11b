"""Every private name of PyTorch that the harness uses; no other file of it knows one.

Beside each stands a plain way to the same, or ``NotApplicable``, which names
what this PyTorch lacks and becomes the reason of a skipped record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bench.records.status import NotApplicable

try:
    from h2ot_core.kernels import ignoring_global_hooks
except ImportError:  # the gate measures older libraries, which did not ask for such hooks
    ignoring_global_hooks = nullcontext  # type: ignore[assignment]

_TRACKER_STATE = ("_update_peak_stats", "_curr_mem_snap", "_peak_mem", "_peak_mem_snap")


def _lacking(name: str, purpose: str) -> NotApplicable:
    return NotApplicable(f"torch {torch.__version__} lacks {name}, which {purpose} needs")


def cuda_sleep(cycles: int) -> None:
    """Keep a CUDA device busy for a number of its cycles.

    Raises:
        NotApplicable: where PyTorch lacks the kernel; no other has a length that is known.
    """
    sleep = getattr(torch.cuda, "_sleep", None)
    if sleep is None:
        raise _lacking("torch.cuda._sleep", "time by the device's own events")
    sleep(cycles)


def fake_tensors(**options: Any) -> Any:
    """A ``FakeTensorMode``: tensors with shapes and types but no values.

    Raises:
        NotApplicable: where PyTorch lacks it.
    """
    try:
        from torch._subclasses.fake_tensor import FakeTensorMode
    except ImportError:
        raise _lacking("FakeTensorMode", "the estimate of training memory") from None
    return FakeTensorMode(**options)


@contextmanager
def tracked_memory(
    model: nn.Module, optimiser: torch.optim.Optimizer, *tensors: Tensor
) -> Iterator[dict[str, int]]:
    """Track every storage that is made within it, on top of those given.

    Args:
        model, optimiser: with their parameters, gradients and state.
        tensors: inputs and the like.

    Yields:
        Device type to peak bytes, filled in when the block is left.

    Raises:
        NotApplicable: where PyTorch lacks ``MemTracker``.
    """
    try:
        from torch.distributed._tools.mem_tracker import MemTracker
    except ImportError:
        raise _lacking("MemTracker", "the estimate of training memory") from None

    class Tracker(MemTracker):
        """Keeps the peak of the whole step alone.

        The peaks of every module, which nothing here reads, are most of the work: a copy per
        operator and active module, minutes for a deep host.
        """

        def _update_peak_stats(self, peak_state: Any) -> None:
            for device, now in self._curr_mem_snap.items():
                if self._peak_mem.get(device, 0) < now["Total"]:
                    self._peak_mem[device] = now["Total"]
                    self._peak_mem_snap[device] = dict(now)

    plain = MemTracker()
    tracker = Tracker() if all(hasattr(plain, name) for name in _TRACKER_STATE) else plain
    tracker.track_external(model, optimiser, *tensors)
    peaks: dict[str, int] = {}
    with tracker, ignoring_global_hooks():  # the tracker's own, by which it follows modules
        yield peaks
    for device, snapshot in tracker.get_tracker_snapshot("peak").items():
        total = (size for name, size in snapshot.items() if str(name) == "Total")
        peaks[device.type] = next(total)


def recompiling(more: int) -> AbstractContextManager[object]:
    """Let ``torch.compile`` recompile a function so many times more than it would.

    Where PyTorch has no such limit to change, its own holds.
    """
    for owner in (torch.compiler, getattr(torch, "_dynamo", None)):
        config: Any = getattr(owner, "config", None)
        limit = getattr(config, "recompile_limit", None)
        if limit is not None:
            return config.patch(recompile_limit=limit + more)
    return nullcontext()


def compiler_errors() -> type[Exception]:
    """What ``torch.compile`` raises for a model that it cannot trace as one graph."""
    errors = getattr(getattr(torch, "_dynamo", None), "exc", None)
    return getattr(errors, "TorchDynamoException", RuntimeError)
