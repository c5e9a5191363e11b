"""H2OT: hierarchical pruning and recovering of pose tokens for video pose transformers.

>>> import torch, h2ot_core
>>> model = h2ot_core.build("mixste", scheme="h2ot").eval()
>>> poses_3d = model(torch.zeros(1, 243, 17, 2))
>>> poses_3d.shape
torch.Size([1, 243, 17, 3])
"""

from __future__ import annotations

from importlib import metadata as _metadata

from h2ot_core import metrics
from h2ot_core.checkpoints import load_published
from h2ot_core.errors import CheckpointError, ConfigError, InputError
from h2ot_core.factory import PIPELINES, SCHEMES, build
from h2ot_core.hosts import HOSTS, AbstractHost, Step
from h2ot_core.hourglass import Config, Hourglass, Output
from h2ot_core.packed import Packed
from h2ot_core.plugins import register
from h2ot_core.probe import Probe
from h2ot_core.prune import PRUNERS
from h2ot_core.prune.base import AbstractPruner, ScorePruner, Signals
from h2ot_core.recover import RECOVERERS
from h2ot_core.recover.base import AbstractRecoverer
from h2ot_core.schedule import Schedule
from h2ot_core.selection import Selection
from h2ot_core.streaming import Stream
from h2ot_core.video import lift

__all__ = [
    "HOSTS",
    "PIPELINES",
    "PRUNERS",
    "RECOVERERS",
    "SCHEMES",
    "AbstractHost",
    "AbstractPruner",
    "AbstractRecoverer",
    "CheckpointError",
    "Config",
    "ConfigError",
    "Hourglass",
    "InputError",
    "Output",
    "Packed",
    "Probe",
    "Schedule",
    "ScorePruner",
    "Selection",
    "Signals",
    "Step",
    "Stream",
    "build",
    "lift",
    "load_published",
    "metrics",
    "register",
]

try:
    __version__ = _metadata.version("h2ot")
except _metadata.PackageNotFoundError:  # imported from a checkout that is not installed
    __version__ = "0+unknown"
