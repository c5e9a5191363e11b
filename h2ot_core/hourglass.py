"""The only loop: embed, (prune) step, ..., recover, head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from h2ot_core.errors import InputError
from h2ot_core.hosts.base import AbstractHost
from h2ot_core.layers import AttentionRecorder
from h2ot_core.probe import NULL_PROBE, NullProbe, Probe
from h2ot_core.prune.base import AbstractPruner, Signals
from h2ot_core.recover.base import AbstractRecoverer
from h2ot_core.schedule import Schedule, middle
from h2ot_core.selection import Bracket, Selection, bracket, take


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that :func:`h2ot_core.build` resolved, as plain values.

    ``prune`` and ``recover`` are None where the model has no such part. ``options`` holds the
    sizes of the host and the options of the strategies in use, sorted by name.
    """

    host: str
    frames: int
    scheme: str
    r: tuple[int, ...]
    b: tuple[int, ...]
    prune: str | None
    recover: str | None
    pipeline: str
    options: tuple[tuple[str, Any], ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments with which ``build`` makes the same model."""
        named = {name: value for name, value in vars(self).items() if name != "options"}
        return {
            **named,
            "prune": self.prune or "none",
            "recover": self.recover or "none",
            **dict(self.options),
        }


@dataclass(frozen=True, eq=False)
class Output:
    """What ``model.run`` returns.

    Attributes:
        poses: (B, F, J, 3) for seq2seq, (B, 1, J, 3) for seq2frame.
        kept: (B, r_M, J, 3), the poses at the kept frames.
        selections: the frames kept by each stage; empty without pruning.
    """

    poses: Tensor
    kept: Tensor
    selections: tuple[Selection, ...]


class Hourglass(nn.Module):
    """A host with its tokens pruned on the way in and recovered on the way out.

    Built by :func:`h2ot_core.build`. With no pruning stage it is the host itself, step for step.

    Attributes:
        config: what it was built from.
        check_finite: whether every input is searched for NaN and infinity. On an accelerator
            that waits for the device once per call; a caller who has checked may turn it off.
    """

    def __init__(
        self,
        host: AbstractHost,
        schedule: Schedule,
        pruner: AbstractPruner | None,
        recoverer: AbstractRecoverer | None,
        config: Config,
    ) -> None:
        super().__init__()
        self.host = host
        self.schedule = schedule
        self.pruner = pruner
        self.recoverer = recoverer
        self.config = config
        self.check_finite = True
        self.centre = middle(schedule.frames) if config.pipeline == "seq2frame" else None
        self._stage_at = {host.stage_step(block): m for m, block in enumerate(schedule.b)}
        self._recorded: frozenset[int] = frozenset()
        if pruner is not None and pruner.requires == "attention":
            steps = (host.score_step(block) for block in schedule.b)
            self._recorded = frozenset(step for step in steps if step is not None)
        self._fix(pruner.fixed() if pruner is not None else None)

    def _fix(self, kept: list[list[int]] | None) -> None:
        """Work out once what does not depend on the input."""
        self._fixed = kept is not None
        if kept is None:
            return
        before = list(range(self.schedule.frames))
        device = torch.get_default_device()
        for stage, frames in enumerate(kept):
            # On the CPU first: these hold values, which a meta device would drop too early.
            local = torch.tensor([[before.index(f) for f in frames]], device="cpu")
            index = torch.tensor([frames], device="cpu")
            place = bracket(index, self.schedule.frames)
            for name, value in (("local", local), ("index", index), *vars(place).items()):
                self.register_buffer(f"_{name}_{stage}", value.to(device), persistent=False)
            before = frames

    def _fixed_selection(self, stage: int) -> tuple[Tensor, Selection]:
        names = ("local", "index", "low", "high", "step", "gap")
        local, index, *place = (getattr(self, f"_{name}_{stage}") for name in names)
        return local, Selection(index, self.schedule.frames, Bracket(*place))

    def forward(self, x: Tensor) -> Tensor:
        """Lift a batch of 2D pose sequences to 3D.

        Args:
            x: (B, F, J, C_in), normalised 2D poses.

        Returns:
            (B, F, J, 3) for seq2seq, (B, 1, J, 3) for seq2frame, in the unit trained for.

        Raises:
            InputError: on a wrong shape or type, or a value that is not finite.
        """
        return self._pass(x, None, NULL_PROBE, None)[0]

    def run(
        self,
        x: Tensor,
        selections: Sequence[Selection] | None = None,
        probe: Probe | None = None,
        noise: Tensor | Sequence[Tensor] | None = None,
    ) -> Output:
        """As calling the model, but also return the poses at the kept frames and the selections.

        Args:
            x: (B, F, J, C_in), normalised 2D poses.
            selections: frames to keep, one per stage, instead of choosing (the flipped pass of
                test-time augmentation reuses those of the first).
            probe: is told about every piece of pruning and recovering work.
            noise: for TPC, the tie-breaking noise of each stage, (B, N) or (1, N) with N the
                frames that the stage chooses from; one tensor where there is one stage. Takes
                the place of the seeded noise.

        Raises:
            InputError: on wrong input, or selections or noise that do not fit the schedule.
        """
        poses, kept, chosen = self._pass(
            x, selections, probe if probe is not None else NULL_PROBE, noise
        )
        if kept is None:
            kept = chosen[-1].gather(poses)
        return Output(poses, kept, chosen)

    def _pass(
        self,
        x: Tensor,
        given: Sequence[Selection] | None,
        probe: Probe | NullProbe,
        noise: Tensor | Sequence[Tensor] | None,
    ) -> tuple[Tensor, Tensor | None, tuple[Selection, ...]]:
        self._check_input(x)
        if given is not None:
            given = self._check_selections(given, x.shape[0])
        noises = self._check_noise(noise, x.shape[0])
        chosen: list[Selection] = []
        recorder = AttentionRecorder()
        z = self.host.embed(x)
        for i, step in enumerate(self.host.steps()):
            stage = self._stage_at.get(i)
            if stage is not None:
                with probe.section("prune"):
                    local, selection = self._select(x, z, chosen, stage, given, recorder, noises)
                    z = take(z, local)
                chosen.append(selection)
                if self.recoverer is not None and stage == self.schedule.stages - 1:
                    with probe.section("recover"):
                        z = self.recoverer.mark(z)
            if i in self._recorded and given is None:
                recorder = AttentionRecorder()
                z = step.run(z, recorder)
            else:
                z = step.run(z, None)
        return self._leave(z, tuple(chosen), probe)

    def _leave(
        self, z: Tensor, chosen: tuple[Selection, ...], probe: Probe | NullProbe
    ) -> tuple[Tensor, Tensor | None, tuple[Selection, ...]]:
        """Recover and regress; the poses at the kept frames are None where they are among all."""
        kept: Tensor | None
        if self.recoverer is None:
            kept = poses = self.host.head(z)
        elif self.recoverer.on_poses:
            kept = self.host.head(z)
            with probe.section("recover"):
                poses = self.recoverer(kept, chosen[-1])
        else:
            # Among f < F recovered frames the kept ones need not be, so they are regressed too.
            kept = self.host.head(z) if self.recoverer.frames != self.schedule.frames else None
            with probe.section("recover"):
                z = self.recoverer(z, chosen[-1])
            poses = self.host.head(z)
        if self.centre is None:
            return poses, kept, chosen
        if self.recoverer is None and chosen:
            place = (chosen[-1].index == self.centre).to(torch.uint8).argmax(dim=1, keepdim=True)
            return take(poses, place), kept, chosen
        if kept is None:
            kept = chosen[-1].gather(poses)
        centre = middle(poses.shape[1])
        return poses[:, centre : centre + 1], kept, chosen

    def _select(
        self,
        x: Tensor,
        z: Tensor,
        chosen: Sequence[Selection],
        stage: int,
        given: Sequence[Selection] | None,
        recorder: AttentionRecorder,
        noises: Sequence[Tensor] | None,
    ) -> tuple[Tensor, Selection]:
        """Positions of the frames this stage keeps among the current ones, and the selection."""
        frames = self.schedule.frames
        if given is not None:
            if not chosen:
                return given[0].index, given[0]
            before, wanted = chosen[-1].index, given[stage].index
            rows = max(before.shape[0], wanted.shape[0])
            return torch.searchsorted(
                before.expand(rows, -1).contiguous(), wanted.expand(rows, -1).contiguous()
            ), given[stage]
        if self._fixed:
            return self._fixed_selection(stage)
        assert self.pruner is not None
        index = chosen[-1].index if chosen else torch.arange(frames, device=z.device).unsqueeze(0)
        needs = self.pruner.requires
        poses = None
        if needs == "poses":
            poses = x[..., :2] if not chosen else chosen[-1].gather(x[..., :2])
        with torch.no_grad():
            signals = Signals(
                index=index,
                keys=self.host.keys(z) if needs == "keys" else None,
                attention=recorder if needs == "attention" else None,
                poses=poses,
                noise=noises[stage] if noises is not None else None,
            )
            local = self.pruner.select(signals, stage)
        index = index.expand(local.shape[0], -1).gather(1, local) if chosen else local
        return local, Selection(index, frames)

    def _check_input(self, x: Tensor) -> None:
        host = self.host
        want = (self.schedule.frames, host.joints, host.channels)
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"poses must be a floating-point torch.Tensor, got {got}.")
        if x.dim() != 4 or tuple(x.shape[1:]) != want or x.shape[0] < 1:
            raise InputError(
                f"poses must have shape (batch, frames, joints, channels) = "
                f"(B, {want[0]}, {want[1]}, {want[2]}) for this {self.config.host} model, "
                f"got {tuple(x.shape)}. Cut or pad the video into windows of {want[0]} frames, "
                f"or build the model for other sizes."
            )
        # A plain tensor with values: fake, meta and traced ones have none to look at.
        concrete = type(x) in (Tensor, nn.Parameter) and not x.is_meta
        if not self.check_finite or not concrete:
            return
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
            return
        finite = torch.isfinite(x)
        if not bool(finite.all()):
            row, frame, joint = (int(i) for i in (~finite).nonzero()[0][:3])
            raise InputError(
                f"poses contain {int((~finite).sum())} values that are NaN or infinite, the first "
                f"at batch {row}, frame {frame}, joint {joint}. Interpolate or drop undetected "
                f"joints before lifting."
            )

    def _check_selections(self, given: Sequence[Selection], batch: int) -> Sequence[Selection]:
        wanted = [self.schedule.frames, *self.schedule.r]
        if len(given) != self.schedule.stages:
            raise InputError(
                f"this model has {self.schedule.stages} pruning stages, got {len(given)} "
                f"selections."
            )
        before: Selection | None = None
        for stage, selection in enumerate(given):
            selection.validate()
            if selection.frames != wanted[0] or selection.keep != wanted[stage + 1]:
                raise InputError(
                    f"stage {stage} keeps {wanted[stage + 1]} of {wanted[0]} frames, got a "
                    f"selection of {selection.keep} of {selection.frames}."
                )
            if selection.index.shape[0] not in (1, batch):
                raise InputError(
                    f"selections must have one row per clip ({batch}) or a single row, got "
                    f"{selection.index.shape[0]}."
                )
            if before is not None:
                known = (selection.index.unsqueeze(2) == before.index.unsqueeze(1)).any(dim=2)
                if not bool(known.all()):
                    raise InputError(f"stage {stage} keeps frames that stage {stage - 1} dropped.")
            if self.centre is not None and not bool((selection.index == self.centre).any(1).all()):
                raise InputError(
                    f"seq2frame needs the centre frame {self.centre} in every selection; "
                    f"stage {stage} lacks it."
                )
            before = selection
        return given

    def _check_noise(
        self, noise: Tensor | Sequence[Tensor] | None, batch: int
    ) -> Sequence[Tensor] | None:
        if noise is None:
            return None
        if self.pruner is None or not self.pruner.uses_noise:
            raise InputError(
                f"noise is for a pruner that breaks ties by it, such as 'tpc'; this model has "
                f"prune={self.config.prune!r}. Leave noise out."
            )
        noises = [noise] if isinstance(noise, Tensor) else list(noise)
        counts = [self.schedule.frames, *self.schedule.r][: self.schedule.stages]
        shapes = [tuple(n.shape) for n in noises]
        if len(shapes) != len(counts) or not all(
            shape in ((1, n), (batch, n)) for shape, n in zip(shapes, counts, strict=True)
        ):
            raise InputError(
                f"noise must be one tensor ({batch}, N) or (1, N) per stage with N = {counts}, "
                f"got {shapes}."
            )
        return noises

    def extra_repr(self) -> str:
        """The configuration, for ``print(model)``."""
        c = self.config
        return (
            f"{c.host}, {c.pipeline}, frames={c.frames}, r={list(c.r)}, b={list(c.b)}, "
            f"prune={c.prune}, recover={c.recover}"
        )
