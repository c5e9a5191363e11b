"""What is measured: one configuration of one host, as a frozen value. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from bench.records.files import text_digest

# What the options of the paper's strategies begin with.
_PUBLISHED = ("tpc_", "tpa_", "tpmo_", "tps_", "tra_", "tri_")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration; equal configurations are one case, in however many rows they stand.

    Attributes:
        host, frames, prune, recover, r, b, pipeline: as for ``h2ot_core.build``; prune and
            recover are None without such a part, and r and b are then empty.
        options: further options of ``build``, sorted by name.
        batch: clips per forward pass.
        device: "cpu" or "cuda".
        dtype: "float32", "bfloat16" or "float16".
        threads: CPU threads of the measuring process; 0 leaves PyTorch's choice.
        motion: name of the input motion.
        strategy_options: names of options that are the pruner's or the recoverer's, so that the
            baseline lacks them; those of the paper's strategies, such as ``tps_rounding``, go
            unlisted.
    """

    host: str
    frames: int
    prune: str | None = None
    recover: str | None = None
    r: tuple[int, ...] = ()
    b: tuple[int, ...] = ()
    pipeline: str = "seq2seq"
    options: tuple[tuple[str, Any], ...] = ()
    batch: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 0
    motion: str = "generated:0"
    strategy_options: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A short name that no other case has."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return f"{self.label}-{text_digest(text, 8)}"

    @property
    def label(self) -> str:
        """What sets the case apart, for people: ``mixste-f243-tps+tri-r121,81-b0,3``."""
        parts = [self.host, f"f{self.frames}"]
        if self.prune:
            parts.append("+".join(filter(None, (self.prune, self.recover))))
            parts += [f"r{','.join(map(str, self.r))}", f"b{','.join(map(str, self.b))}"]
        if self.pipeline != "seq2seq":
            parts.append(self.pipeline)
        parts += [f"{name}={value}" for name, value in self.options]
        if self.batch != 1:
            parts.append(f"batch{self.batch}")
        return "-".join(parts)

    @property
    def baseline(self) -> Case:
        """The same host and input without pruning."""
        sizes = tuple(
            item
            for item in self.options
            if not item[0].startswith(_PUBLISHED) and item[0] not in self.strategy_options
        )
        return replace(
            self, prune=None, recover=None, r=(), b=(), options=sizes, strategy_options=()
        )

    def build_arguments(self) -> dict[str, Any]:
        """Keyword arguments for ``h2ot_core.build``, the host's name among them."""
        return {
            "host": self.host,
            "frames": self.frames,
            "scheme": "none",
            "prune": self.prune or "none",
            "recover": self.recover if self.recover or not self.prune else "none",
            "r": self.r,
            "b": self.b,
            "pipeline": self.pipeline,
            **dict(self.options),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values for a record file; ``strategy_options`` only where there are any."""
        values = asdict(self)
        if not self.strategy_options:
            del values["strategy_options"]
        return values

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Case:
        """Read back what :meth:`to_json` wrote.

        Raises:
            ValueError: naming unknown or missing fields.
        """
        names = {field.name for field in fields(cls)}
        values = {"strategy_options": (), **data}
        if set(values) != names:
            odd = sorted(set(values) ^ names)
            raise ValueError(f"a case has fields {sorted(names)}; these differ: {odd}")
        values["r"], values["b"] = tuple(values["r"]), tuple(values["b"])
        values["options"] = tuple((str(k), v) for k, v in values["options"])
        values["strategy_options"] = tuple(values["strategy_options"])
        return cls(**values)
