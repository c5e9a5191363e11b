"""A transformer of your own under every strategy, and a pruner of your own.

python -m bench run --plugin examples/tiny_transformer.py --host tiny --every-strategy --report
"""

from functools import partial

import torch
from torch import nn

from h2ot_core import AbstractHost, ScorePruner, Step, register


class Tiny(AbstractHost):
    """One token per frame, PyTorch's own encoder layers, poses of all frames out."""

    sizes = {"frames": 81, "width": 128, "depth": 4, "heads": 4, "joints": 17}
    published_b = {"hot": (1,), "tpc": (1,), "tpm": (1, 2), "h2ot": (1, 2)}
    channels = 2

    def __init__(self, schedule, **options):
        super().__init__(schedule, **options)
        self.token = nn.Linear(self.joints * self.channels, self.width)
        self.place = nn.Parameter(torch.zeros(1, self.frames, self.width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(self.width, self.heads, 2 * self.width, batch_first=True)
            for _ in range(self.depth)
        )
        self.out = nn.Linear(self.width, self.joints * 3)

    def embed(self, x):  # (B, F, J, 2) -> (B, F, 1, C): a single stream
        return (self.token(x.flatten(2)) + self.place).unsqueeze(2)

    def steps(self):
        return tuple(Step(f"layer.{i}", partial(self.layer, i)) for i in range(self.depth))

    def layer(self, i, x, recorder):
        x, layer = x.squeeze(2), self.layers[i]
        if recorder is not None:  # for TPA: queries and keys as (B, streams, heads, frames, d)
            qkv = x @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias
            q, k, _ = qkv.detach().unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            recorder.append((q.unsqueeze(1), k.unsqueeze(1)))
        return layer(x).unsqueeze(2)

    def head(self, x):  # (B, N, 1, C) -> (B, N, J, 3)
        return self.out(x.squeeze(2)).unflatten(-1, (self.joints, 3))


class Stillness(ScorePruner):
    """Keeps the frames that move least: the opposite of TPMo."""

    requires = "poses"

    def score(self, signals, stage):
        moved = signals.poses.diff(dim=1).abs().sum(dim=(2, 3))
        return -torch.cat([moved[:, :1], moved], 1)


register("tiny", Tiny)
register("still", Stillness)
