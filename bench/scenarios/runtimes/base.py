"""What a runtime is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from bench.metrics.base import NotApplicable
from h2ot_core import Hourglass

Call = Callable[[Tensor], Tensor]
"""(B, F, J, C_in) float32 to poses, float32, on the same device."""


Prepare = Callable[[Hourglass, Tensor], Call]
"""From a model and an example of its input to a call, see :attr:`Runtime.prepare`."""


NOT_FINITE = "its poses are not finite: values beyond the range of its type"


class Unavailable(NotApplicable):
    """The runtime does not work here, or not with this model; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A way to run a model.

    Attributes:
        title: what is done, for the report.
        available: from a device's type to why the runtime is missing there, "" if it is not.
        prepare: from a float32 model in evaluation mode and an example of its input, both on the
            device, to a call for inputs of that shape, warmed up. Does not change the model.
            Raises :class:`Unavailable` for a model that the runtime cannot run.
    """

    title: str
    available: Callable[[str], str]
    prepare: Prepare
