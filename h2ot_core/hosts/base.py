"""What a host (a video pose transformer) provides to the one loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from h2ot_core.layers import AttentionRecorder, StreamMean
from h2ot_core.schedule import Schedule


class Step(NamedTuple):
    """One step of a host: (B, N, S, C) to the same, any N that pruning leaves.

    ``run(tokens, recorder)`` appends the queries and keys of its temporal attention to the recorder
    where there is one; a step without temporal attention gets None.
    """

    name: str
    run: Callable[[Tensor, AttentionRecorder | None], Tensor]


class AbstractHost(nn.Module, ABC):
    """A video pose transformer as a list of steps between an embedding and a head.

    Args:
        schedule: F, r and b; a host whose layers are sized by frame count reads them here.
        options: the host's sizes, already checked against :attr:`sizes`.
    """

    sizes: ClassVar[Mapping[str, Any]]
    """Published sizes by option name; frames, width, depth, heads and joints among them."""
    default_scheme: ClassVar[str] = "h2ot"
    published_b: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """Scheme to the block indices that the paper gives for this host."""
    published_names: ClassVar[Mapping[str, str]] = {}
    """This host's parameter prefixes to those of the published repository, where they differ."""
    misfit: ClassVar[str] = ""
    """Why weights of another schedule may not fit, where they may not; for the error message."""
    channels: ClassVar[int]
    """C_in, the input channels per joint."""
    pipelines: ClassVar[tuple[str, ...]] = ("seq2seq", "seq2frame")
    """What it can be used for; a host without "seq2seq" has nothing to recover."""
    qkv_bias: ClassVar[bool] = True
    """Whether its attention projects queries, keys and values with a bias."""
    output_unit: ClassVar[str] = "unstated"
    """Unit of the poses that its published weights put out, such as "metres"."""
    loss: ClassVar[str] = "mpjpe"
    """The loss it was published with, a name in ``h2ot_core.losses.LOSSES``."""
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Published training recipes, "code" (of the repository) and "paper" (Table 1 of H2OT): the
    values that differ from the defaults of ``bench.train.recipes.Recipe``."""
    epoch: ClassVar[tuple[int, int] | None] = None
    """Frames between the clips of a training epoch at batch 4, and copies of each clip (2 where a
    flipped one is added); None where the paper trains at another batch size, or not at all."""

    def __init__(self, schedule: Schedule, **options: Any) -> None:
        super().__init__()
        self.frames = schedule.frames
        self.joints: int = options["joints"]
        self.width: int = options["width"]
        self.heads: int = options["heads"]
        self.depth: int = options["depth"]
        self.pool = StreamMean()

    @classmethod
    def published_name(cls, name: str) -> str:
        """A weight's name in the published repository, from this host's name for it."""
        first, dot, rest = name.partition(".")
        return cls.published_names.get(first, first) + dot + rest

    @classmethod
    def blocks(cls, depth: int) -> int:
        """L, the number of blocks that b counts; by default the depth."""
        return depth

    def stage_step(self, block: int) -> int:
        """The step before which a stage with b = ``block`` acts; by default that block's own."""
        return block

    def score_step(self, block: int) -> int | None:
        """The step whose temporal attention scores frames for b = ``block``, None without one.

        By default the step of the block before; a host whose steps put nothing into their recorder
        returns None throughout, and TPA is refused.
        """
        return block - 1 if block else None

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Poses (B, F, J, C_in) to tokens (B, F, S, C)."""

    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """The steps, in order."""

    @abstractmethod
    def head(self, x: Tensor) -> Tensor:
        """Tokens (B, N, S, C) to poses (B, N, J, 3)."""

    def keys(self, x: Tensor) -> Tensor:
        """Tokens (B, N, S, C) to one descriptor per frame (B, N, C'), by default their mean."""
        return self.pool(x)
