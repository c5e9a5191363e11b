"""MixSTE (Zhang et al., CVPR 2022): alternating spatial and temporal transformer blocks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from h2ot_core.hosts.base import AbstractHost, Step
from h2ot_core.layers import AttentionRecorder, Block
from h2ot_core.schedule import Schedule

_DROP_PATH = 0.1  # of the last block; grows linearly from 0


class MixSTE(AbstractHost):
    """Pairs of a spatial and a temporal half; one norm after all spatial, one after all temporal.

    Stage b = 0 acts between the halves of block 0 (the paper's FLOPs prove it), b >= 1 before
    pair b. Temporal positions are added before a stage at b = 0 chooses, as every later stage
    sees them too.

    Checked against NationalGAILab/HoT 873b5bd, model/mixste. Modifications: one tensor layout
    throughout, fused attention, any joint count.
    """

    sizes: ClassVar[Mapping[str, Any]] = {
        "frames": 243,
        "width": 512,
        "depth": 8,
        "heads": 8,
        "mlp_hidden": None,  # 2 x width
        "joints": 17,
    }
    published_b: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "hot": (3,),
        "tpc": (3,),
        "tpm": (0, 3),
        "h2ot": (0, 3),
    }
    output_unit = "metres"
    loss = "mixste"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"optimizer": "adam", "seed": 1126},
        "code": {"weight_decay": 0.1, "seed": 1126},
    }
    epoch = (243, 2)
    published_names: ClassVar[Mapping[str, str]] = {
        "joint_embed": "Spatial_patch_to_embedding",
        "spatial_pos": "Spatial_pos_embed",
        "temporal_pos": "Temporal_pos_embed",
        "spatial_blocks": "STEblocks",
        "temporal_blocks": "TTEblocks",
        "spatial_norm": "Spatial_norm",
        "temporal_norm": "Temporal_norm",
        "head_layers": "head",
    }
    channels = 2

    def __init__(self, schedule: Schedule, **options: Any) -> None:
        super().__init__(schedule, **options)
        width, heads, depth = options["width"], options["heads"], options["depth"]
        hidden = options["mlp_hidden"] or 2 * width
        self.joint_embed = nn.Linear(self.channels, width)
        self.spatial_pos = nn.Parameter(torch.zeros(1, self.joints, width))
        self.temporal_pos = nn.Parameter(torch.zeros(1, schedule.frames, width))

        def blocks(along: str) -> nn.ModuleList:
            rates = [_DROP_PATH * i / max(depth - 1, 1) for i in range(depth)]
            return nn.ModuleList(Block(width, heads, hidden, along, drop_path=p) for p in rates)

        self.spatial_blocks = blocks("spatial")
        self.temporal_blocks = blocks("temporal")
        self.spatial_norm = nn.LayerNorm(width, eps=1e-6)
        self.temporal_norm = nn.LayerNorm(width, eps=1e-6)
        self.head_layers = nn.Sequential(nn.LayerNorm(width, eps=1e-5), nn.Linear(width, 3))

    def stage_step(self, block: int) -> int:
        """Step 1, the temporal half, for b = 0; the spatial half of pair b from there on."""
        return max(1, 2 * block)

    def score_step(self, block: int) -> int | None:
        """The temporal half of the pair before."""
        return 2 * block - 1 if block else None

    def embed(self, x: Tensor) -> Tensor:
        """(B, F, J, 2) to (B, F, J, C), with the joints' positions."""
        return self.joint_embed(x) + self.spatial_pos

    def steps(self) -> tuple[Step, ...]:
        """Spatial and temporal half of each block in turn."""
        return tuple(
            step
            for i in range(self.depth)
            for step in (
                Step(f"spatial.{i}", partial(self._spatial, i)),
                Step(f"temporal.{i}", partial(self._temporal, i)),
            )
        )

    def _spatial(self, i: int, x: Tensor, recorder: AttentionRecorder | None) -> Tensor:
        x = self.spatial_norm(self.spatial_blocks[i](x))
        return x + self.temporal_pos.unsqueeze(2) if i == 0 else x

    def _temporal(self, i: int, x: Tensor, recorder: AttentionRecorder | None) -> Tensor:
        return self.temporal_norm(self.temporal_blocks[i](x, recorder))

    def head(self, x: Tensor) -> Tensor:
        """(B, N, J, C) to (B, N, J, 3)."""
        return self.head_layers(x)
