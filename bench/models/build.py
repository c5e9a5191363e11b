"""From a case to its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import h2ot_core
from bench.records.case import Case
from bench.records.status import NotApplicable

if TYPE_CHECKING:  # a worker process imports it where it needs it
    from bench.models.supernet import Supernet

SEED = 0
"""Of initial weights, the same in every process."""


def measured_model(
    case: Case,
    *,
    weights: Literal["initial", "rule"] | Path | Supernet = "initial",
    training: bool = False,
    **changes: Any,
) -> h2ot_core.Hourglass:
    """The model of a case, as every measurement builds it.

    It is on the case's device, and searches its input for NaN and infinity (``check_finite``) on
    a CPU, as a user's call does, but not on an accelerator: there the search would wait for the
    device, and the input was checked when it was made. Threads are a matter of the process, not
    of the model: see ``bench.workers``.

    Args:
        case: what is measured.
        weights: those that the host initialises from seed 0, or the stated rule of
            :func:`bench.models.inputs.weights`, or of a file, or of a trained supernet.
        training: in training mode and float32, instead of evaluation mode and the case's dtype.
        changes: arguments of ``h2ot_core.build`` in place of the case's, such as a small width
            where the input alone matters.

    Raises:
        NotApplicable: if the device is not there.
        h2ot_core.ConfigError: for a case that cannot be built.
        h2ot_core.CheckpointError: if the file cannot be read or does not fit.
    """
    require_device(case)
    if isinstance(weights, (str, Path)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = h2ot_core.build(**{**case.build_arguments(), **changes})
        if weights == "rule":
            from bench.models import inputs

            h2ot_core.load_published(model, inputs.weights(model))
        elif isinstance(weights, Path):
            from bench.models.weights import load_weights

            load_weights(model, weights)
    else:
        model = weights.build(case)
    dtype = torch.float32 if training else getattr(torch, case.dtype)
    if (case.device, dtype) != ("cpu", torch.float32):  # fake tensors cannot be moved
        model = model.to(case.device, dtype)
    model.check_finite = case.device == "cpu"
    return model.train(training)


def require_device(case: Case) -> None:
    """Check that a case can be measured on this machine.

    Raises:
        NotApplicable: if its device is not there.
    """
    if case.device == "cuda" and not torch.cuda.is_available():
        raise NotApplicable("no CUDA device")


class SkipNorms(TorchFunctionMode):
    """Skips layer norms of tensors without values.

    To derive their shape takes torch longer than all else, and counters of products ignore them.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.nn.functional.layer_norm and args[0].is_meta:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


def blank_model(
    arguments: dict[str, Any],
    *,
    batch: int = 1,
    device: str = "meta",
    dtype: torch.dtype = torch.float32,
) -> tuple[h2ot_core.Hourglass, Tensor]:
    """Build a model and one batch of input for counting: on the meta device, without values."""
    with torch.device(device):
        model = h2ot_core.build(**arguments).eval().requires_grad_(False).to(dtype)
        host = model.host
        x = torch.zeros(batch, host.frames, host.joints, host.channels, dtype=dtype)
        return model, x
