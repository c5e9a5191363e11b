"""The library's fast path by its present names, also of a library from before they were given.

The regression gate runs an older ``h2ot_core`` under this harness.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

try:
    from h2ot_core.kernels import (
        fast_path_applies,
        ignoring_global_hooks,
        linear,
        plain,
        supported_types,
    )
except ImportError:
    from h2ot_core import fused
    from h2ot_core.fused import linear, plain
    from h2ot_core.fused import ready as fast_path_applies

    @contextmanager
    def ignoring_global_hooks() -> Iterator[None]:
        """Nothing: an older library did not ask for such hooks in training."""
        yield

    def supported_types() -> tuple[torch.dtype, ...]:
        """As the library's."""
        return fused.TYPES


__all__ = ["fast_path_applies", "ignoring_global_hooks", "linear", "plain", "supported_types"]
