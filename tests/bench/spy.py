"""A plug-in whose hosts note, in every forward pass, whether they train and record gradients.

Every host of the registry is replaced by one that adds a line of JSON to the file named by
``H2OT_SPY``, so that what takes the paper's hosts alone is watched too.
"""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from torch import Tensor

from h2ot_core import HOSTS, AbstractHost


def _watched(kind: type[AbstractHost]) -> type[AbstractHost]:
    class Watched(kind):  # type: ignore[misc, valid-type]
        def embed(self, x: Tensor) -> Any:
            note = {
                "training": sorted({module.training for module in self.modules()}),
                "gradients": torch.is_grad_enabled(),
                "process": os.getpid(),
            }
            with open(os.environ["H2OT_SPY"], "a", encoding="utf-8") as file:
                file.write(json.dumps(note) + "\n")
            return super().embed(x)

    return Watched


for name, host in HOSTS.items():
    if host.__name__ != "Watched":
        HOSTS[name] = _watched(host)
