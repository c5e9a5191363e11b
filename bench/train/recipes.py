"""How to train: optimiser, decay, loss and flips of the paper's Table 1 and of the published code.

Sources: protocols of the paper (Table 1) and of the hosts' repositories (arguments, main scripts
and configuration files of HoT, MixSTE, MotionBERT, MotionAGFormer and MHFormer).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from h2ot_core.errors import ConfigError, unknown
from h2ot_core.hosts import HOSTS
from h2ot_core.losses import loss_of

Flip = Literal["duplicate", "random", "none"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a training but the model and the data.

    Attributes:
        name: "paper" or "code" for the published ones.
        loss: host whose published loss is used; see ``h2ot_core.losses``.
        optimizer: "adam", "amsgrad" (Adam with amsgrad), "adamw", or "muon" (Muon for hidden
            matrices at ten times the rate, AdamW for all other weights).
        rate: learning rate at the start.
        weight_decay: of adamw.
        decay: factor on the rate after each epoch.
        decay_fifth: factor instead of `decay` after each fifth epoch; 0 for none.
        schedule: "epoch" decays as above, "cosine" falls to a hundredth of the rate over all steps.
        warmup: steps over which the rate rises from nothing.
        epochs: passes over the data.
        batch: windows per step, over all devices and accumulated parts.
        flip: "duplicate" shows each window also mirrored in each epoch (HoT, MixSTE), "random"
            mirrors each with probability a half (MotionBERT, MotionAGFormer).
        stride: frames between windows, whole ones only; 0 for windows side by side over the whole
            take, with both ends held.
        centred: one window around each frame, with both ends held, instead (seq2frame).
        clip: largest norm of the gradient; 0 for any.
        seed: of everything drawn.
    """

    name: str
    loss: str
    optimizer: Literal["adam", "amsgrad", "adamw", "muon"] = "adamw"
    rate: float = 4e-5
    weight_decay: float = 0.0
    decay: float = 0.99
    decay_fifth: float = 0.0
    schedule: Literal["epoch", "cosine"] = "epoch"
    warmup: int = 0
    epochs: int = 160
    batch: int = 4
    flip: Flip = "duplicate"
    stride: int = 0
    centred: bool = False
    clip: float = 0.0
    seed: int = 0

    def share_at(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of a step as a share of that at the start."""
        return self.rate_at(step, steps_per_epoch) / self.rate

    def rate_at(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of a step, counted from 0."""
        total = self.epochs * steps_per_epoch
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            return rise * self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total)))
        done = step // steps_per_epoch
        fifths = done // 5 if self.decay_fifth else 0
        return (
            rise * self.rate * self.decay ** (done - fifths) * (self.decay_fifth or 1.0) ** fifths
        )

    def optimizers_for(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        """The optimisers that share all weights that learn."""
        weights = [p for p in model.parameters() if p.requires_grad]
        rate, decay = self.rate, self.weight_decay
        if self.optimizer == "adamw":
            return [torch.optim.AdamW(weights, lr=rate, weight_decay=decay)]
        if self.optimizer != "muon":
            return [torch.optim.Adam(weights, lr=rate, amsgrad=self.optimizer == "amsgrad")]
        hidden = [p for p in weights if p.dim() == 2 and min(p.shape) > 3]
        others = [p for p in weights if all(p is not h for h in hidden)]
        return [
            torch.optim.Muon(hidden, lr=10 * rate, weight_decay=decay, momentum=0.9),
            torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=(0.9, 0.95)),
        ]

    def criterion(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss on predicted and target poses (B, F, J, 3)."""
        return loss_of(self.loss)


_DEFAULT = {
    "rate": 5e-4, "weight_decay": 0.01, "epochs": 60, "batch": 16, "flip": "random", "stride": 81,
}  # fmt: skip
_NAMES = ("code", "paper")


def recipe_for(host: str, name: str = "code") -> Recipe:
    """A published recipe of a host; one that has none is trained as MotionAGFormer.

    Raises:
        ConfigError: for an unknown host or recipe, or a field that recipes do not have.
    """
    if host not in HOSTS:
        raise unknown("host", host, HOSTS)
    recipes = HOSTS[host].recipes
    if name not in recipes and name not in _NAMES:
        raise unknown("recipe", name, sorted({*_NAMES, *recipes}))
    values: Mapping[str, Any] = recipes.get(name, _DEFAULT)
    try:
        return Recipe(name=name, loss=host, **values)
    except TypeError as error:
        raise ConfigError(
            f"recipe {name!r} of {host} has a field that recipes do not have ({error}); see "
            f"bench.train.recipes.Recipe."
        ) from None
