"""TRA: recover all frames by cross attention from learnable tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from h2ot_core.layers import CrossAttention
from h2ot_core.recover.base import AbstractRecoverer
from h2ot_core.schedule import Schedule
from h2ot_core.selection import Selection


class AttentionRecoverer(AbstractRecoverer):
    """Token Recovering Attention (paper, Section 3.2.1, Eq. 5).

    F learnable tokens, zero at first, attend to the kept tokens of each stream; a residual, no
    norm. It owns the token embedding (r_M, C) that is added after the last selection: the paper
    does not mention it, its 35.00 M parameters contain it.
    """

    def __init__(
        self, schedule: Schedule, width: int, heads: int, *, qkv_bias: bool = True, **options: Any
    ) -> None:
        super().__init__(schedule, width, heads, qkv_bias=qkv_bias)
        self.pos_embed_token = nn.Parameter(torch.zeros(1, schedule.kept, width))
        self.x_token = nn.Parameter(torch.zeros(1, schedule.frames, width))
        self.cross_attention = CrossAttention(width, heads, qkv_bias=qkv_bias)

    def mark(self, x: Tensor) -> Tensor:
        """Add the token embedding of each place in the kept sequence."""
        return x + self.pos_embed_token.unsqueeze(2)

    def recover(self, x: Tensor, selection: Selection) -> Tensor:
        """(B, K, S, C) to (B, F, S, C); which frames were kept is in the tokens themselves."""
        tokens = self.x_token.unsqueeze(2)
        return tokens + self.cross_attention(tokens, x, x)
