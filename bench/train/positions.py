"""Add the position of each frame to a trained supernet so that TRA can read it.

TRA's queries are learnable tokens, one per frame; they must recognise from the kept tokens alone
which frame each stands for. A small supernet that was trained without TRA has lost that: each half
block adds outputs larger than its input and normalises, so the embedding added at the bottom fades
towards the top. Here a few channels of the supernet carry sines of the frame's position from the
embedding to TRA instead, whose attention starts as a comparison of them. All weights are then
trained further.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from h2ot_core.elastic import Elastic

WAVES = (12.0, 40.0, 140.0, 486.0)
"""Wavelengths in frames: the shortest separates neighbours, the longest both ends of a window."""

AMPLITUDE = 0.7
"""Of the sines in the temporal embedding, beside normalised tokens of about 1 per channel."""

SHARPNESS = 2.0
"""Factor of TRA's first query and key projections."""


def plant_positions(supernet: Elastic, x: Tensor, y: Tensor) -> list[int]:
    """Change a supernet in place, so that TRA starts by attending to nearby frames.

    The channels without which the error grows least are cleared in every block, head and norm;
    the temporal embedding carries the sines in them. The two norms that follow the half blocks
    scale them by what the blocks would make them fade, in the geometric mean over blocks. TRA's
    tokens are the same sines, its queries and keys read these channels alone, its values and
    output pass on whole tokens. Deterministic.

    Args:
        supernet: of MixSTE.
        x: (B, F', J, 2), a few windows to judge channels by, F' at most the supernet's frames.
        y: (B, F', J, 3), their poses.

    Returns:
        The channels.
    """
    host: Any = supernet.host
    recoverer: Any = supernet.recoverer
    width, heads = host.width, host.heads
    waves = WAVES[-max(1, min(len(WAVES), width // 16, width // heads // 2)) :]
    angle = 2 * torch.pi * torch.arange(supernet.frames)[:, None] / torch.tensor(waves)
    device = next(supernet.parameters()).device
    code = torch.cat([angle.sin(), angle.cos()], dim=1).to(device)  # (F, 2 per wave)
    x, y = x.to(device), y.to(device)
    attention = recoverer.cross_attention
    with torch.no_grad():
        channels = _cheapest(supernet, x, y, code.shape[1])
        _clear(host, channels)
        spatial, temporal = _growth(supernet, x)
        host.spatial_norm.weight[channels] = spatial
        host.temporal_norm.weight[channels] = temporal
        host.temporal_pos[..., channels] = AMPLITUDE * code
        for token in (recoverer.x_token, recoverer.pos_embed_token):
            token.zero_()
        recoverer.x_token[..., channels] = code
        for linear in (attention.linear_q, attention.linear_k):
            linear.weight.zero_()
            linear.bias.zero_()
            per_head = linear.weight.unflatten(0, (heads, -1))
            for place, channel in enumerate(channels):
                per_head[:, place, channel] = SHARPNESS
        for linear in (attention.linear_v, attention.proj):
            nn.init.eye_(linear.weight)
            linear.bias.zero_()
    return channels


def _cheapest(supernet: Elastic, x: Tensor, y: Tensor, count: int) -> list[int]:
    """The channels that cost least when cleared alone."""
    kept = {name: value.clone() for name, value in supernet.state_dict().items()}
    costs = []
    for channel in range(supernet.host.width):
        _clear(supernet.host, [channel])
        costs.append(float((_poses(supernet, x) - y).norm(dim=-1).mean()))
        supernet.load_state_dict(kept)
    return sorted(range(len(costs)), key=costs.__getitem__)[:count]


def _clear(host: Any, channels: Sequence[int]) -> None:
    """Let only the temporal embedding write channels, and no block read them."""
    for block in (*host.spatial_blocks, *host.temporal_blocks):
        for writer in (block.attn.proj, block.mlp.fc2):
            writer.weight[channels] = 0
            writer.bias[channels] = 0
        for reader in (block.attn.qkv, block.mlp.fc1):
            reader.weight[:, channels] = 0
    for norm in (host.spatial_norm, host.temporal_norm):
        norm.weight[channels] = 1
        norm.bias[channels] = 0
    host.joint_embed.weight[channels] = 0
    host.joint_embed.bias[channels] = 0
    for embedding in (host.spatial_pos, host.temporal_pos):
        embedding[..., channels] = 0
    host.head_layers[-1].weight[:, channels] = 0


def _growth(supernet: Elastic, x: Tensor) -> tuple[float, float]:
    """Geometric means of what the norms after spatial and after temporal halves divide by."""
    with _recorded_inputs(supernet, x.shape[1]) as seen:
        _poses(supernet, x)
    # The first spatial norm comes before the embedding is added.
    return tuple(  # type: ignore[return-value]
        float(torch.stack([v.std(-1, correction=0).log().mean() for v in values]).mean().exp())
        for values in (seen["spatial_norm"][1:] or seen["spatial_norm"], seen["temporal_norm"])
    )


@contextmanager
def _recorded_inputs(supernet: Elastic, frames: int) -> Iterator[dict[str, list[Tensor]]]:
    """Record the inputs of the two norms of the unpruned subnet."""
    host: Any = supernet._member(scheme="none", frames=frames).host
    seen: dict[str, list[Tensor]] = {"spatial_norm": [], "temporal_norm": []}
    hooks = [
        getattr(host, name).register_forward_pre_hook(
            lambda module, args, into=into: into.append(args[0])
        )
        for name, into in seen.items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _poses(supernet: Elastic, x: Tensor) -> Tensor:
    was = supernet.training
    supernet.eval()
    poses = supernet(x, scheme="none", frames=x.shape[1])
    supernet.train(was)
    return poses
