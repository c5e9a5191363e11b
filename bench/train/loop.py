"""The training loop: resumable to the step, on one device or several."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from bench.records.errors import UsageError
from bench.records.files import replacing
from bench.records.progress import progress
from bench.train.batches import Batch, Feed, ahead, seed_of
from bench.train.recipes import Recipe
from h2ot_core import Hourglass, weights
from h2ot_core.checkpoints import read_weights, save_published

STATE = "state.pt"
FINAL = "final.safetensors"
BEST = "best.safetensors"

Validate = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how a training runs; it changes the rounding of the result alone.

    Attributes:
        folder: for the state, the weights and the learning curve.
        precision: as Fabric names it, such as "32-true", "bf16-mixed" or "16-mixed".
        accelerator: "cpu", "cuda" or "auto".
        devices: processes per machine; more than one under torchrun.
        nodes: machines.
        accumulate: parts into which each step's windows are cut, one after the other.
        save_every_s: seconds between saved states.
        validate_every: steps between validations; 0 for after each epoch.
        stop_after_s: stop with the state saved after so many seconds; 0 for no limit.
        until: stop after this step; 0 for the last. For tests and parts of a training.
    """

    folder: Path
    precision: Any = "32-true"
    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    accumulate: int = 1
    save_every_s: float = 120.0
    validate_every: int = 0
    stop_after_s: float = 0.0
    until: int = 0


class Learner(nn.Module):
    """Pairs a model's predictions with their targets.

    As published, the loss of a seq2frame model covers all frames that it kept, not the centre
    alone: the targets are gathered at the kept frames.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x: torch.Tensor, y: torch.Tensor, **subnet: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicted and target poses, (B, N, J, 3) each."""
        if not isinstance(self.model, Hourglass):
            return self.model(x, **subnet), y
        if self.model.config.pipeline == "seq2seq":
            return self.model(x), y
        output = self.model.run(x)
        return output.kept, output.selections[-1].gather(y) if output.selections else y


@dataclass(frozen=True)
class Outcome:
    """The progress of a training.

    Attributes:
        step: steps done.
        total: steps there are.
        curve: per validation the step, the mean loss since the previous one, and the measurements.
    """

    step: int
    total: int
    curve: list[dict[str, float]]

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.step >= self.total


def fit(
    model: nn.Module,
    feed: Feed,
    recipe: Recipe,
    run: Run,
    *,
    validate: Validate | None = None,
    choose: str = "mpjpe_mm",
    card: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train a model in place; continue from the folder's saved state.

    A step depends on the recipe's seed, its number and the weights before it alone, so a training
    that was stopped anywhere ends with the same weights as one that was not (exactly, on a CPU).

    Args:
        model: an ``Hourglass`` or an ``Elastic``, with its initial weights.
        feed: makes the batch of any step.
        recipe: see :class:`Recipe`.
        run: see :class:`Run`.
        validate: measures the model; called with it in evaluation mode.
        choose: the measurement by which the best weights are kept, lower being better.
        card: stored in the weight files with the facts of this training.

    Raises:
        UsageError: if the folder holds the state of another training, or is damaged.
    """
    fabric = _fabric(run)
    total = recipe.epochs * feed.steps
    optimizers: Any = recipe.optimizers_for(model)
    peaks = [[group["lr"] for group in one.param_groups] for one in optimizers]
    identity = _identity(model, feed, recipe)
    state = _read_state(run.folder, identity)
    step, curve, best, elapsed = 0, [], float("inf"), 0.0
    sums = torch.zeros(2)  # of the loss and its count, since the last validation
    if state is not None:
        model.load_state_dict(state["model"])
        for one, saved_state in zip(optimizers, state["optimizers"], strict=True):
            one.load_state_dict(saved_state)
        step, curve, best, elapsed = (state[k] for k in ("step", "curve", "best", "seconds"))
        sums = state["sums"]
    if fabric.is_global_zero:
        run.folder.mkdir(parents=True, exist_ok=True)
    module, *optimizers = fabric.setup(Learner(model), *optimizers)
    criterion = recipe.criterion()
    last = min(total, run.until or total)
    every = run.validate_every or feed.steps
    part, parts = fabric.global_rank, fabric.world_size
    if recipe.batch % (parts * run.accumulate):
        raise UsageError(
            f"a batch of {recipe.batch} windows cannot be shared by {parts} processes in "
            f"{run.accumulate} parts; choose numbers that divide it"
        )
    begun = saved = time.monotonic()
    sums = sums.to(fabric.device)

    def now() -> float:
        """Seconds of training so far, over all parts."""
        return elapsed + time.monotonic() - begun

    def save() -> None:
        nonlocal saved
        if fabric.is_global_zero:
            content = {
                "identity": identity,
                "step": step,
                "curve": curve,
                "best": best,
                "sums": sums,
                "seconds": now(),
                "model": model.state_dict(),
                "optimizers": [one.state_dict() for one in optimizers],
            }
            _write_state(run.folder, content)
        saved = time.monotonic()

    batches = ahead(feed, step, last, part, parts)
    hidden = not fabric.is_global_zero
    model.train()
    with closing(batches), progress("training", total, hidden, "step", initial=step) as tick:
        for batch in batches:
            share = recipe.share_at(step, feed.steps)
            for one, rates in zip(optimizers, peaks, strict=True):
                for group, peak in zip(one.param_groups, rates, strict=True):
                    group["lr"] = peak * share
            loss = _step(fabric, module, optimizers, criterion, batch, recipe, run, (step, part))
            sums += torch.stack([loss, torch.ones_like(loss)])
            step += 1
            # Reading the loss waits for the device, so not after every step.
            tick(f"loss={float(sums[0] / sums[1]):.4f}" if step % 10 == 0 else "")
            if validate is not None and (step % every == 0 or step == total):
                curve.append(_validated(fabric, model, validate, step, sums))
                value = curve[-1].get(choose, float("inf"))
                if value < best:
                    best = value
                    if fabric.is_global_zero:
                        _export(model, run.folder / BEST, _card(card, identity, step, curve, now()))
                save()
            out_of_time = run.stop_after_s and time.monotonic() - begun > run.stop_after_s
            if _agreed(fabric, bool(out_of_time)):
                break
            if time.monotonic() - saved > run.save_every_s:
                save()
    save()
    if step >= total and fabric.is_global_zero:
        _export(model, run.folder / FINAL, _card(card, identity, step, curve, now()))
    fabric.barrier()
    return Outcome(step, total, curve)


def _fabric(run: Run) -> Fabric:
    several = run.devices * run.nodes > 1
    fabric = Fabric(
        accelerator=run.accelerator,
        devices=run.devices,
        num_nodes=run.nodes,
        precision=run.precision,
        # A subnet leaves some weights of the supernet unused.
        strategy=DDPStrategy(find_unused_parameters=True) if several else "auto",
    )
    fabric.launch()
    return fabric


def _step(
    fabric: Fabric,
    module: Any,
    optimizers: Any,
    criterion: Any,
    batch: Batch,
    recipe: Recipe,
    run: Run,
    where: tuple[int, int],
) -> torch.Tensor:
    """One step of the optimiser; the mean loss of its windows."""
    torch.manual_seed(seed_of(recipe.seed, "step", *where))
    x, y = (v.to(fabric.device, non_blocking=True) for v in (batch.x, batch.y))
    module.zero_grad(set_to_none=True)
    loss = torch.zeros((), device=fabric.device)
    pieces = list(zip(x.chunk(run.accumulate), y.chunk(run.accumulate), strict=True))
    for i, (xs, ys) in enumerate(pieces):
        with fabric.no_backward_sync(module, enabled=i < len(pieces) - 1):
            predicted, target = module(xs, ys, **batch.subnet)
            part = criterion(predicted.float(), target) * (len(xs) / len(x))
            fabric.backward(part)
        loss += part.detach()
    if recipe.clip:
        torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
    for optimizer in optimizers:
        optimizer.step()
    return loss


def _validated(
    fabric: Fabric, model: nn.Module, validate: Validate, step: int, sums: torch.Tensor
) -> dict[str, float]:
    """One point of the learning curve; every process measures the same."""
    mean = fabric.all_reduce(sums[0] / sums[1], reduce_op="mean")
    sums.zero_()
    model.eval()
    with torch.no_grad():
        measured = dict(validate(model))
    model.train()
    return {"step": step, "loss": float(mean), **measured}  # type: ignore[arg-type]


def _agreed(fabric: Fabric, stop: bool) -> bool:
    """Whether the first process stops; all must stop after the same step."""
    if fabric.world_size == 1:
        return stop
    return bool(fabric.broadcast(stop, src=0))


def _identity(model: nn.Module, feed: Feed, recipe: Recipe) -> dict[str, Any]:
    """What must be equal for a saved state to be continued."""
    arguments = getattr(model, "arguments", None) or model.config.arguments  # type: ignore[union-attr]
    return json.loads(
        json.dumps(
            {"model": arguments, "feed": dict(feed.description), "recipe": asdict(recipe)},
            default=list,
        )
    )


def _card(
    card: Mapping[str, Any] | None,
    identity: dict[str, Any],
    step: int,
    curve: list[Any],
    seconds: float,
) -> dict[str, Any]:
    return {**(card or {}), **identity, "step": step, "curve": curve, "seconds": round(seconds)}


def _export(model: nn.Module, path: Path, card: dict[str, Any]) -> None:
    """Write the weights in this package's format, a model's also in the published one."""
    weights.save(model, path, card)
    if isinstance(model, Hourglass):
        save_published(model, path.with_suffix(".pth"))


def _read_state(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    path = folder / STATE
    if not path.is_file():
        return None
    state = read_weights(path)
    if not isinstance(state, dict) or "identity" not in state:
        raise UsageError(f"{path} is no training state; name another folder")
    if state["identity"] != identity:
        differing = [part for part in identity if state["identity"].get(part) != identity[part]]
        raise UsageError(
            f"{folder} holds a training with another {', '.join(differing)}; name another folder, "
            f"or remove {path} to begin anew"
        )
    return state


def _write_state(folder: Path, content: dict[str, Any]) -> None:
    """Replace the state atomically; a crash leaves the previous one."""
    with replacing(folder / STATE) as temporary, temporary.open("wb") as file:
        torch.save(content, file)
