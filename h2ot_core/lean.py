"""Former name of :mod:`h2ot_core.kernels.training`."""

from __future__ import annotations

from h2ot_core.kernels.training import gelu_linear, linear, norm_linear, projections

__all__ = ["gelu_linear", "linear", "norm_linear", "projections"]
