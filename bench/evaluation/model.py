"""The model that a command lifts with: built, with weights, on its device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import h2ot_core
from bench.models.weights import load_weights
from bench.records.errors import UsageError


def check_options(weights: Path | None, untrained: bool, device: str, *, without: str) -> None:
    """Refuse options that exclude each other, before anything takes time.

    Args:
        weights: a checkpoint; None needs ``untrained``.
        untrained: whether random weights are meant.
        device: "cpu" or "cuda".
        without: what a model without weights is good for, for the message.

    Raises:
        UsageError: for neither or both of weights and untrained, or a device that is not there.
    """
    if weights is None and not untrained:
        raise UsageError(
            f"no --weights: {without}; give a checkpoint of a published repository, or --untrained "
            "to try the command all the same"
        )
    if weights is not None and untrained:
        raise UsageError("--weights and --untrained exclude each other; give one")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is there; leave --device out to use the CPU")


def load_model(
    arguments: Mapping[str, Any], weights: Path | None, device: str
) -> h2ot_core.Hourglass:
    """Build a model in evaluation mode.

    Args:
        arguments: of ``h2ot_core.build``.
        weights: a checkpoint; None means random weights, the same in every run.
        device: "cpu" or "cuda".

    Raises:
        h2ot_core.ConfigError, h2ot_core.CheckpointError: from building and loading.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = h2ot_core.build(**arguments)
    if weights is not None:
        load_weights(model, weights)
    return model.to(device).eval()
