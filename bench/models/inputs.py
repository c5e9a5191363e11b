"""Shared weights, windows and noise for comparing implementations."""

from __future__ import annotations

import zlib
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

import h2ot_core
from bench.data.windows import MotionSource, Window, batch
from h2ot_core.checkpoints import published_names

_INPUTS = 8
# Densities of the clustering are at most 1, with many ties; published code adds uniform noise times
# 1e-6. With noise of this size in both, the rounding of float32 decides nothing.
_NOISE = 1e4


def weights(model: h2ot_core.Hourglass) -> dict[str, Tensor]:
    """Weights by published name, from name and shape alone, the same on every machine.

    Standard normal from PCG64 seeded with the CRC-32 of the name, times 0.05 for matrices and
    0.02 for vectors; 1 is added to the gains of norms (vectors named weight), and a running
    variance is 1 + 0.1 times its absolute value. Counters are 0.
    """
    own = model.state_dict()
    return {theirs: _weight(theirs, own[ours]) for theirs, ours in published_names(model).items()}


def _weight(name: str, like: Tensor) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    normal = np.asarray(generator.standard_normal(tuple(like.shape)), dtype=np.float32)
    if name.endswith("running_var"):
        value = 1 + np.float32(0.1) * np.abs(normal)
    elif like.dim() >= 2:
        value = np.float32(0.05) * normal
    else:
        gain = np.float32(1 if name.endswith("weight") else 0)
        value = gain + np.float32(0.02) * normal
    return torch.from_numpy(np.ascontiguousarray(value))


def windows(motion: MotionSource, frames: int, size: int) -> list[list[Window]]:
    """The ``size`` windows of each of 8 rounds; the first ones repeat where there are few.

    Raises:
        bench.data.readers.motion.MotionError: if the motion has no window of F frames.
    """
    every = islice(cycle(motion.windows(frames, limit=size * _INPUTS)), size * _INPUTS)
    return [list(islice(every, size)) for _ in range(_INPUTS)]


def inputs(model: h2ot_core.Hourglass, motion: MotionSource, size: int) -> dict[str, Tensor]:
    """Batches for the rounds, and noise where TPC breaks ties.

    Args:
        model: of the same F and C_in.
        motion: source of the windows.
        size: clips per batch, B.

    Returns:
        ``input_0`` to ``input_7``, each (B, F, 17, C_in) float32, and for TPC ``noise`` (B, F).

    Raises:
        bench.data.readers.motion.MotionError: if the motion has no window of F frames.
    """
    tensors = {
        f"input_{number}": torch.from_numpy(batch(chosen, model.host.channels))
        for number, chosen in enumerate(windows(motion, model.config.frames, size))
    }
    # The gate also measures libraries that are older than the attribute.
    if getattr(model.pruner, "uses_noise", model.config.prune == "tpc"):
        generator = np.random.Generator(np.random.PCG64(0))
        noise = generator.uniform(0, _NOISE, (size, model.config.frames)).astype(np.float32)
        tensors["noise"] = torch.from_numpy(noise)
    return tensors
