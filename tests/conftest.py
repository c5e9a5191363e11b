"""Fixtures shared by the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from h2ot_core import Hourglass, build

# The same examples in every run, and none judged by how long it took.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# The tensors are small: threads would spend their time waiting for one another, and on a busy
# machine far longer than the work takes.
torch.set_num_threads(1)

SMALL = {"frames": 27, "width": 16, "depth": 5, "heads": 2, "joints": 5}


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference data that lies next to the checkout."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the reference data in {path}")
    return path


@pytest.fixture(scope="session")
def small() -> Callable[..., Hourglass]:
    """Build a small model in evaluation mode, by default with no weight at zero."""

    def make(seed: int = 0, *, jitter: bool = True, **arguments: Any) -> Hourglass:
        torch.manual_seed(seed)
        model = build("mixste", **{**SMALL, **arguments}).eval()
        if jitter:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape))
        return model

    return make


@pytest.fixture(scope="session")
def clips() -> Callable[..., Tensor]:
    """Draw a batch of 2D pose sequences."""

    def draw(batch: int = 2, *, frames: int = 27, joints: int = 5, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand((batch, frames, joints, 2), generator=generator) * 2 - 1

    return draw
