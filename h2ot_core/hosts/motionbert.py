"""MotionBERT (Zhu et al., ICCV 2023), as its DSTformer: two streams that swap space and time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from h2ot_core.hosts.base import AbstractHost, Step
from h2ot_core.layers import AttentionRecorder, Block, blend, linear_tanh
from h2ot_core.schedule import Schedule

# Of the normal that linear layers and embeddings start from. The published code truncates it at
# +-2, a hundred standard deviations away.
_STD = 0.02
_HALF = re.compile(r"^(blocks_(?:st|ts)\.\d+)\.(spatial|temporal)\.(norm1|attn|norm2|mlp)\b")


class Layer(nn.Module):
    """A spatial and a temporal block, run in one order or the other."""

    def __init__(self, width: int, heads: int, hidden: int, *, spatial_first: bool) -> None:
        super().__init__()
        self.spatial = Block(width, heads, hidden, "spatial")
        self.temporal = Block(width, heads, hidden, "temporal")
        self.spatial_first = spatial_first

    def forward(self, x: Tensor, recorder: AttentionRecorder | None = None) -> Tensor:
        """(B, N, J, C) to the same."""
        if self.spatial_first:
            return self.temporal(self.spatial(x), recorder)
        return self.spatial(self.temporal(x, recorder))


class MotionBERT(AbstractHost):
    """Layers of two streams, spatial then temporal and temporal then spatial, fused by weights.

    A stage acts before a whole layer, also at b = 0 (after the embeddings). TPA averages the
    temporal attention of both streams.

    Checked against NationalGAILab/HoT 873b5bd, model/motionbert (the paper's 16.00 M variant).
    Modifications: one tensor layout throughout, fused attention, any frame and joint count.
    """

    sizes: ClassVar[Mapping[str, Any]] = {
        "frames": 243,
        "width": 256,
        "depth": 5,
        "heads": 8,
        "mlp_hidden": None,  # 4 x width
        "rep_width": 512,
        "joints": 17,
    }
    published_b: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "hot": (1,),
        "tpc": (1,),
        "tpm": (0, 1),
        "h2ot": (0, 1),
    }
    loss = "motionbert"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "optimizer": "adam", "rate": 5e-4, "epochs": 120, "flip": "random", "stride": 81,
        },
        "code": {
            "rate": 5e-4, "weight_decay": 0.01, "epochs": 120, "batch": 32, "flip": "random",
            "stride": 81,
        },
    }  # fmt: skip
    epoch = (81, 1)
    channels = 3  # x, y, confidence

    def __init__(self, schedule: Schedule, **options: Any) -> None:
        super().__init__(schedule, **options)
        width, heads, depth = options["width"], options["heads"], options["depth"]
        hidden = options["mlp_hidden"] or 4 * width
        self.joints_embed = nn.Linear(self.channels, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.joints, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, schedule.frames, 1, width))

        def layers(*, spatial_first: bool) -> nn.ModuleList:
            return nn.ModuleList(
                Layer(width, heads, hidden, spatial_first=spatial_first) for _ in range(depth)
            )

        self.blocks_st = layers(spatial_first=True)
        self.blocks_ts = layers(spatial_first=False)
        self.ts_attn = nn.ModuleList(nn.Linear(2 * width, 2) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pre_logits = nn.Sequential()
        self.pre_logits.add_module("fc", nn.Linear(width, options["rep_width"]))
        self.pre_logits.add_module("act", nn.Tanh())
        self.out = nn.Linear(options["rep_width"], 3)
        self._start()

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_STD)
                nn.init.zeros_(module.bias)
        for embedding in (self.pos_embed, self.temp_embed):
            nn.init.normal_(embedding, std=_STD)
        for name, parameter in self.ts_attn.named_parameters():
            # Both streams count the same at first.
            nn.init.constant_(parameter, 0.5 if name.endswith("bias") else 0.0)

    @classmethod
    def published_name(cls, name: str) -> str:
        """Published repositories mark a block's halves by a suffix; here each is a module."""
        name = _HALF.sub(lambda m: f"{m[1]}.{m[3]}_{m[2][0]}", name)
        return re.sub(r"^out\.", "head.", name)

    def embed(self, x: Tensor) -> Tensor:
        """(B, F, J, 3) to (B, F, J, C), with the positions of joints and frames."""
        return self.joints_embed(x) + self.pos_embed + self.temp_embed

    def steps(self) -> tuple[Step, ...]:
        """One step per layer."""
        return tuple(Step(f"layer.{i}", partial(self._layer, i)) for i in range(self.depth))

    def _layer(self, i: int, x: Tensor, recorder: AttentionRecorder | None) -> Tensor:
        one, other = self.blocks_st[i](x, recorder), self.blocks_ts[i](x, recorder)
        x = blend(one, other, self.ts_attn[i])
        return self.norm(x) if i == self.depth - 1 else x

    def head(self, x: Tensor) -> Tensor:
        """(B, N, J, C) to (B, N, J, 3)."""
        return self.out(linear_tanh(x, self.pre_logits))
