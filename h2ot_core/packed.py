"""A model whose weights are laid out for a CPU once, for inference alone."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from h2ot_core import kernels
from h2ot_core.errors import ConfigError
from h2ot_core.hourglass import Config, Hourglass, Output

# When a mapped block of memory is freed, glibc keeps what is freed later up to twice its size, and
# this is the largest that it takes into account.
_LARGEST = 2**25 - 2**16


class Packed:
    """A model for inference on a CPU, of which oneDNN lays out the weights once and not per call.

    Outputs are those of the model. It holds a copy: what is done to the model afterwards does not
    reach it. The layout is made by the first call and for its number of clips; with other numbers
    the weights are read as they lie. Beside the model's own, weights take twice their memory.

    Args:
        model: on a CPU, in float32, or in bfloat16 where the processor has that.

    Attributes:
        config: of the model.

    Raises:
        ConfigError: if the model is elsewhere, of another type, or PyTorch has no oneDNN.
    """

    def __init__(self, model: Hourglass) -> None:
        if not isinstance(model, Hourglass):
            raise ConfigError(
                f"Packed takes a model made by h2ot_core.build, got {type(model).__name__}."
            )
        found = sorted({f"{p.dtype} on {p.device.type}" for p in model.parameters()})
        wanted = {f"{kind} on cpu" for kind in kernels.supported_types()}
        if not wanted:
            why = kernels.status().why or "this build of PyTorch lacks oneDNN"
            raise ConfigError(f"{why}; call the model itself.")
        if len(found) != 1 or found[0] not in wanted:
            raise ConfigError(
                f"Packed takes a model whose weights are all {' or all '.join(sorted(wanted))}, "
                f"got {', '.join(found)}; move it with model.to(...), or call the model itself."
            )
        self.config: Config = model.config
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._weights = kernels.PackedWeights(self._model.parameters())
        # Allocated and freed, never written: else passes would get their memory anew every time.
        torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")

    def __call__(self, x: Tensor) -> Tensor:
        """As calling the model, without gradients.

        Args:
            x: (B, F, J, C_in), normalised 2D poses in the type of the weights.

        Returns:
            (B, F, J, 3) for seq2seq, (B, 1, J, 3) for seq2frame, in the unit trained for.

        Raises:
            InputError: on a wrong shape or type, or a value that is not finite.
        """
        with torch.inference_mode(), kernels.packing(self._weights):
            return self._model(x)

    def run(self, x: Tensor, **arguments: Any) -> Output:
        """As :meth:`h2ot_core.Hourglass.run`, whose arguments it takes, without gradients."""
        with torch.inference_mode(), kernels.packing(self._weights):
            return self._model.run(x, **arguments)
