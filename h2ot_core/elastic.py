"""One set of weights that serves every schedule of a host."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.func import functional_call

from h2ot_core.errors import ConfigError
from h2ot_core.factory import build
from h2ot_core.hourglass import Hourglass
from h2ot_core.layers import CrossAttention, DropPath

_TOKENS = "recoverer.pos_embed_token"


class Elastic(nn.Module):
    """A trunk: the weights of one host at its full length, from which any member is drawn.

    A member is a model of the same host with any window up to F, any r and b, any pruner and any
    recoverer. It takes the trunk's weights as they are; only what depends on frames is cut to
    measure: embeddings per frame to their centre slice, and TRA's embedding per kept token, which
    the trunk holds for F tokens, resampled linearly to r_M. Pruning is a choice of frames, so
    members differ in what they see and not in what they are.

    Args:
        host: a host whose only weights that depend on frames are embeddings per frame.
        frames: F, the longest window.
        **sizes: of the host, such as ``width``, ``heads``, ``depth``, ``mlp_hidden``.

    Raises:
        ConfigError: for an unknown host or size, or a host with other weights per frame.
    """

    def __init__(self, host: str = "mixste", *, frames: int = 243, **sizes: Any) -> None:
        super().__init__()
        base = build(host, scheme="none", frames=frames, **sizes)
        self.arguments = base.config.arguments
        self.sizes = {name: value for name, value in base.config.options if value is not None}
        self.frames = frames
        self.host = base.host
        width, heads, bias = base.host.width, base.host.heads, base.host.qkv_bias
        self.recoverer = nn.Module()
        self.recoverer.pos_embed_token = nn.Parameter(torch.zeros(1, frames, width))
        self.recoverer.x_token = nn.Parameter(torch.zeros(1, frames, width))
        self.recoverer.cross_attention = CrossAttention(width, heads, qkv_bias=bias)
        self._members: dict[str, Hourglass] = {}
        half = self._member(frames=max(1, frames // 3), scheme="none")
        self._fitted(half)  # refuses hosts that cannot be cut to measure

    def forward(self, x: Tensor, **arguments: Any) -> Tensor:
        """Run the member that arguments of :func:`h2ot_core.build` describe; differentiable.

        Args:
            x: (B, F', J, C_in), F' being the member's frames.
            **arguments: all but the host and its sizes, which are the trunk's.

        Returns:
            (B, F', J, 3), as the member gives it.
        """
        member = self._member(**arguments)
        member.train(self.training)
        return functional_call(member, self._fitted(member), (x,))

    def build(self, **arguments: Any) -> Hourglass:
        """A member with weights of its own, in evaluation mode.

        Args:
            **arguments: of :func:`h2ot_core.build`, all but the host and its sizes.
        """
        member = build(self.arguments["host"], **self._complete(arguments))
        weights = {name: value.detach().clone() for name, value in self._fitted(member).items()}
        member.load_state_dict(weights)
        return member.eval()

    def _complete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        clash = sorted({"host", *self.sizes} & set(arguments))
        if clash:
            raise ConfigError(f"the trunk fixes {', '.join(clash)}; leave them out.")
        completed = {"frames": self.frames, **self.sizes, **arguments}
        if completed["frames"] > self.frames:
            raise ConfigError(
                f"this trunk has embeddings for {self.frames} frames, got frames = "
                f"{completed['frames']}; use at most {self.frames}."
            )
        return completed

    def _member(self, **arguments: Any) -> Hourglass:
        """The member without weights worth keeping; built once per configuration."""
        key = repr(sorted(arguments.items()))
        if key not in self._members:
            member = build(self.arguments["host"], **self._complete(arguments))
            for module in member.modules():
                if isinstance(module, DropPath):
                    module.rate = 0.0  # changing members regularise enough
            # Not a submodule: its weights are stand-ins that no optimizer should see.
            self._members[key] = member.to(next(self.parameters()).device)
        return self._members[key]

    def _fitted(self, member: Hourglass) -> dict[str, Tensor]:
        """The trunk's weights under the member's names, cut to its shapes."""
        own = dict(self.state_dict(keep_vars=True))
        return {
            name: self._fit(name, own[name], value.shape)
            for name, value in member.state_dict().items()
        }

    def _fit(self, name: str, value: Tensor, shape: torch.Size) -> Tensor:
        if name == _TOKENS:
            if shape[1] == 1:
                return value[:, self.frames // 2 : self.frames // 2 + 1]
            return functional.interpolate(
                value.transpose(1, 2), size=shape[1], mode="linear", align_corners=True
            ).transpose(1, 2)
        if value.shape == shape:
            return value
        others = [i for i in range(value.dim()) if i != 1]
        per_frame = value.dim() > 2 and value.shape[1] == self.frames
        if not per_frame or [value.shape[i] for i in others] != [shape[i] for i in others]:
            raise ConfigError(
                f"{self.arguments['host']} cannot be a trunk: {name} is {tuple(value.shape)} for "
                f"{self.frames} frames and {tuple(shape)} for fewer, and is no embedding per frame."
            )
        start = (self.frames - shape[1]) // 2
        return value[:, start : start + shape[1]]
