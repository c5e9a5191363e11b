"""MotionAGFormer (Mehraban et al., WACV 2024): an attention and a graph stream, fused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from h2ot_core import kernels
from h2ot_core.errors import ConfigError
from h2ot_core.hosts.base import AbstractHost, Step
from h2ot_core.kernels import FastPath
from h2ot_core.layers import Attention, AttentionRecorder, Mlp, attend, blend, linear_tanh
from h2ot_core.schedule import Schedule

_LAYER_SCALE = 1e-5
# Bones of the Human3.6M skeleton, child to parent; without self-loops.
_BONES = ((1, 0), (2, 1), (3, 2), (4, 0), (5, 4), (6, 5), (7, 0), (8, 7), (9, 8), (10, 9),
          (11, 8), (12, 11), (13, 12), (14, 8), (15, 14), (16, 15))  # fmt: skip
# Bones that the published adjacency holds from child to parent only.
_ONE_WAY = ((4, 0), (11, 8), (14, 8))


def _relu(sums: Tensor) -> Tensor:
    """In place where no gradient needs the sums."""
    return functional.relu(sums, inplace=not torch.is_grad_enabled())


class SpatialGraph(nn.Module):
    """Graph convolution over the bones of each frame; (B, N, J, C) to the same."""

    def __init__(self, width: int, joints: int) -> None:
        super().__init__()
        self.U = nn.Linear(width, width)
        self.V = nn.Linear(width, width)
        self.batch_norm = nn.BatchNorm1d(joints)
        self.register_buffer("adjacency", _skeleton(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Average over neighbours, add, normalise per joint, add, rectify."""
        fast = kernels.spatial_graph(self, x)
        if fast is not None:
            return fast
        update = self.U(x) + self.normalised() @ self.V(x)
        update = self.batch_norm(update.flatten(0, 1))  # joints are the channels of the norm
        return _relu(x + update.view_as(x))

    fast_path: ClassVar = FastPath("spatial_graph", forward)

    def normalised(self) -> Tensor:
        """The adjacency over the roots of both degrees, (J, J), as exact as the model's type."""
        adjacency = self.get_buffer("adjacency")
        root = adjacency.sum(dim=-1, keepdim=True).rsqrt()
        return root * adjacency * root.T


class TemporalGraph(nn.Module):
    """Graph convolution over the most similar frames of each joint; (B, N, J, C) to the same.

    Neighbours are the frames whose similarity reaches the n-th largest, so ties all count. Near
    ties may fall differently under another order of summation.
    """

    def __init__(self, width: int, frames: int, neighbours: int) -> None:
        super().__init__()
        self.U = nn.Linear(width, width)
        self.V = nn.Linear(width, width)
        self.batch_norm = nn.BatchNorm1d(frames)
        self.neighbours = neighbours

    def forward(self, x: Tensor) -> Tensor:
        """Average over similar frames, add, normalise per frame, add, rectify."""
        fast = kernels.temporal_graph(self, x)
        if fast is not None:
            return fast
        with torch.no_grad():  # a choice of frames, and how many were chosen
            y = x.transpose(1, 2)  # (B, J, N, C)
            similarity = y @ y.transpose(-2, -1)
            least = similarity.topk(self.neighbours, dim=-1).values[..., -1:]
            near = similarity.ge_(least)
            root = near.sum(dim=-1, keepdim=True).rsqrt()
        aggregate = (near @ (root * self.V(x).transpose(1, 2))).mul_(root)
        update = self.U(x) + aggregate.transpose(1, 2)
        # Frames are the channels of the norm: it averages over batch, joints and width.
        return _relu(x + self.batch_norm(update.flatten(2)).view_as(x))

    fast_path: ClassVar = FastPath("temporal_graph", forward)


def _skeleton() -> Tensor:
    """0/1, row by row the neighbours of a joint; (17, 17)."""
    adjacency = torch.zeros(17, 17, device="cpu")
    for child, parent in _BONES:
        adjacency[child, parent] = 1
        if (child, parent) not in _ONE_WAY:
            adjacency[parent, child] = 1
    return adjacency.to(torch.get_default_device())


class Mixed(nn.Module):
    """A pre-norm block with scaled residuals around any mixer."""

    def __init__(self, width: int, hidden: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden)
        self.layer_scale_1 = nn.Parameter(torch.full((width,), _LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((width,), _LAYER_SCALE))

    def forward(self, x: Tensor, recorder: AttentionRecorder | None = None) -> Tensor:
        """(B, N, J, C) to the same."""
        mixer, scale = self.mixer, self.layer_scale_1
        y = kernels.residual(x, mixer, norm=self.norm1, scale=scale, recorder=recorder)
        x = x + scale * attend(mixer, self.norm1(x), recorder) if y is None else y
        scale = self.layer_scale_2
        y = kernels.residual(x, self.mlp, norm=self.norm2, scale=scale)
        return x + scale * self.mlp(self.norm2(x)) if y is None else y


class Layer(nn.Module):
    """One layer of both streams at a known frame count."""

    def __init__(self, width: int, heads: int, hidden: int, frames: int, neighbours: int) -> None:
        super().__init__()

        def attention(along: str) -> Mixed:
            return Mixed(width, hidden, Attention(width, heads, along, qkv_bias=False))

        self.att_spatial = attention("spatial")
        self.att_temporal = attention("temporal")
        self.graph_spatial = Mixed(width, hidden, SpatialGraph(width, 17))
        self.graph_temporal = Mixed(width, hidden, TemporalGraph(width, frames, neighbours))
        self.fusion = nn.Linear(2 * width, 2)
        nn.init.zeros_(self.fusion.weight)
        nn.init.constant_(self.fusion.bias, 0.5)

    def forward(self, x: Tensor, recorder: AttentionRecorder | None = None) -> Tensor:
        """(B, N, J, C) to the same, N the frame count it was built for."""
        one = self.att_temporal(self.att_spatial(x), recorder)
        other = self.graph_temporal(self.graph_spatial(x))
        return blend(one, other, self.fusion)


class MotionAGFormer(AbstractHost):
    """Layers of an attention and a graph stream, each spatial then temporal, fused by weights.

    A stage acts before a whole layer, also at b = 0. The temporal graph's batch norm has one
    entry per frame, so each layer is built for the frames that the schedule leaves it, and
    weights trained without pruning fit no pruned model. TPA scores by the attention stream.

    Checked against NationalGAILab/HoT 873b5bd, model/motionagformer. That copy has 4 heads and 4
    neighbours; the defaults are the original's 8 and 2. Modifications: one tensor layout
    throughout, fused attention, degrees as scales instead of diagonal matrices.
    """

    sizes: ClassVar[Mapping[str, Any]] = {
        "frames": 243,
        "width": 128,
        "depth": 16,
        "heads": 8,
        "mlp_hidden": None,  # 4 x width
        "rep_width": 512,
        "neighbours": 2,
        "joints": 17,
    }
    published_b: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "hot": (7,),
        "tpc": (7,),
        "tpm": (0, 7),
        "h2ot": (0, 7),
    }
    loss = "motionbert"
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "optimizer": "adam", "rate": 5e-4, "epochs": 120, "flip": "random", "stride": 81,
        },
        "code": {
            "rate": 5e-4, "weight_decay": 0.01, "epochs": 60, "batch": 16, "flip": "random",
            "stride": 81,
        },
    }  # fmt: skip
    epoch = (81, 1)
    published_names: ClassVar[Mapping[str, str]] = {"out": "head"}
    misfit = (
        "The batch norm of the temporal graph has one entry per frame, so weights trained without "
        "pruning fit no pruned model of this host: it must be trained with its schedule."
    )
    channels = 3  # x, y, confidence
    qkv_bias = False

    def __init__(self, schedule: Schedule, **options: Any) -> None:
        super().__init__(schedule, **options)
        width, heads, depth = options["width"], options["heads"], options["depth"]
        hidden = options["mlp_hidden"] or 4 * width
        if self.joints != 17:
            raise ConfigError(
                f"motionagformer's graph is the 17-joint Human3.6M skeleton, got joints = "
                f"{self.joints}."
            )
        neighbours = options["neighbours"]
        if neighbours > schedule.kept:
            raise ConfigError(
                f"neighbours must not exceed the fewest frames kept, {schedule.kept}; got "
                f"{neighbours}."
            )
        self.joints_embed = nn.Linear(self.channels, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.joints, width))
        self.layers = nn.ModuleList(
            Layer(width, heads, hidden, schedule.frames_at(i), neighbours) for i in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.rep_logit = nn.Sequential()
        self.rep_logit.add_module("fc", nn.Linear(width, options["rep_width"]))
        self.rep_logit.add_module("act", nn.Tanh())
        self.out = nn.Linear(options["rep_width"], 3)

    def embed(self, x: Tensor) -> Tensor:
        """(B, F, J, 3) to (B, F, J, C), with the joints' positions; it has none for frames."""
        return self.joints_embed(x) + self.pos_embed

    def steps(self) -> tuple[Step, ...]:
        """One step per layer."""
        return tuple(Step(f"layer.{i}", partial(self._layer, i)) for i in range(self.depth))

    def _layer(self, i: int, x: Tensor, recorder: AttentionRecorder | None) -> Tensor:
        x = self.layers[i](x, recorder)
        return self.norm(x) if i == self.depth - 1 else x

    def head(self, x: Tensor) -> Tensor:
        """(B, N, J, C) to (B, N, J, 3)."""
        return self.out(linear_tanh(x, self.rep_logit))
