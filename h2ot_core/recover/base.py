"""What a recoverer gets and what it must return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from h2ot_core.schedule import Schedule
from h2ot_core.selection import Selection


class AbstractRecoverer(nn.Module, ABC):
    """Returns from r_M kept frames to all F.

    Args:
        schedule: F, r and b.
        width: C, the host's token width.
        heads: the host's attention heads.
        qkv_bias: whether the host's attention projects with a bias.
        options: this recoverer's options, already checked against :attr:`options`.
    """

    options: ClassVar[Mapping[str, Any]] = {}
    """Option name to default; a tuple lists the allowed values, the first being the default."""

    on_poses: bool = False
    """True to recover the head's poses (B, K, J, 3), False to recover tokens (B, K, S, C)."""

    def __init__(
        self, schedule: Schedule, width: int, heads: int, *, qkv_bias: bool = True, **options: Any
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.frames = schedule.frames  # f, how many frames it returns to

    def mark(self, x: Tensor) -> Tensor:
        """Change the tokens (B, K, S, C) right after the last selection; by default not at all."""
        return x

    @abstractmethod
    def recover(self, x: Tensor, selection: Selection) -> Tensor:
        """Bring (B, K, ...) back to (B, F, ...), knowing which frames were kept."""

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """As :meth:`recover`; through here module hooks see the work."""
        return self.recover(x, selection)
