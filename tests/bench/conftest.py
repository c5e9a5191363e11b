"""Fixtures of the harness's tests: hosts that are watched, and a plug-in of every kind."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from watched import Spy

from bench.data.readers import READERS
from bench.metrics import METRICS
from bench.models import plugins
from bench.scenarios.runtimes import RUNTIMES
from h2ot_core import HOSTS, PRUNERS, RECOVERERS

SPY = Path(__file__).with_name("spy.py")

PLUGIN = '''
"""A host, a pruner and a recoverer with options of their own, a metric, a reader, a runtime."""

import numpy as np
import torch
from torch import nn

from bench.data.readers import READERS, Reader
from bench.data.sequences import DataSet, MotionSequence
from bench.metrics import METRICS
from bench.metrics.base import Metric, Reading
from bench.scenarios.runtimes import RUNTIMES
from bench.scenarios.runtimes.base import Runtime
from h2ot_core import HOSTS, AbstractHost, AbstractRecoverer, ScorePruner, Step, build, register


class Flat(AbstractHost):
    """One token per frame and a layer per step; no attention."""

    sizes = {"frames": 27, "width": 16, "depth": 3, "heads": 1, "joints": 17}
    published_b = {"hot": (1,), "tpc": (1,), "tpm": (0, 1), "h2ot": (0, 1)}
    channels = 2

    def __init__(self, schedule, **options):
        super().__init__(schedule, **options)
        self.token = nn.Linear(self.joints * self.channels, self.width)
        self.layers = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(self.depth))
        self.out = nn.Linear(self.width, self.joints * 3)

    def embed(self, x):
        return self.token(x.flatten(2)).unsqueeze(2)

    def steps(self):
        return tuple(Step(f"layer.{i}", self.layer(i)) for i in range(self.depth))

    def layer(self, i):
        return lambda x, tap: x + self.layers[i](x).tanh()

    def score_step(self, block):
        return None

    def head(self, x):
        return self.out(x.squeeze(2)).unflatten(-1, (self.joints, 3))


class Drawn(ScorePruner):
    """Frames by lot, the same for every clip."""

    options = {"seed": 0, "rand_seed": 0}

    def __init__(self, schedule, centre, **options):
        super().__init__(schedule, centre)
        generator = torch.Generator().manual_seed(1000 * options["seed"] + options["rand_seed"])
        for stage, count in enumerate((schedule.frames, *schedule.r)[: schedule.stages]):
            lots = torch.rand((1, count), generator=generator, device="cpu")
            lots = lots.to(torch.get_default_device())
            self.register_buffer(f"lots_{stage}", lots, persistent=False)

    def score(self, signals, stage):
        return self.get_buffer(f"lots_{stage}")


class Held(AbstractRecoverer):
    """The kept frame before, or the one after."""

    options = {"side": ("before", "after")}
    on_poses = True

    def __init__(self, schedule, width, heads, **options):
        super().__init__(schedule, width, heads)
        self.after = options["side"] == "after"

    def recover(self, x, selection):
        index = selection.index.contiguous()
        t = torch.arange(selection.frames, device=index.device).expand(len(index), -1)
        place = torch.searchsorted(index, t.contiguous(), right=not self.after)
        place = (place if self.after else place - 1).clamp(0, selection.keep - 1)
        rows = torch.arange(len(x), device=x.device).unsqueeze(1)
        return x[rows, place]


def output_spread(case, context):
    """How far poses lie apart in the mean, on zeros."""
    model = build(**case.build_arguments()).eval()
    with torch.inference_mode():
        poses = model(torch.zeros(1, case.frames, 17, HOSTS[case.host].channels))
    return [Reading(metric="output_spread", unit="1", values=(float(poses.std()),))]


def load_still(place):
    """One person who stands still for so many frames, seen exactly."""
    frames = int(place or 60)
    pose = np.random.default_rng(0).normal(0, 0.3, (17, 3)).astype(np.float32)
    target = np.repeat((pose - pose[:1])[None], frames, axis=0)
    sequence = MotionSequence(
        name="S/front", clip="S", subject="S", action="Standing", camera="front",
        input=target[..., :2], target=target, truth_mm=1000 * target,
        to_mm=np.full(frames, 1000, np.float32), valid=np.ones(frames, bool),
    )
    return DataSet(
        name=f"still:{frames}", description="A person who stands still.", detector="gt", fps=50,
        load=lambda split: [sequence],
    )


def clipwise(model, example):
    """One clip of a batch after the other."""
    return lambda x: torch.cat([model(clip) for clip in x.split(1)])


register("flat", Flat)
register("drawn", Drawn)
register("held", Held)
METRICS["output_spread"] = Metric("spread of the output", ("output_spread",), output_spread)
READERS["still"] = Reader(form="still[:FRAMES]", about="people who do not move", load=load_still)
RUNTIMES["clipwise"] = Runtime(
    title="one clip after the other", available=lambda device: "", prepare=clipwise
)
'''


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away, afterwards, what a test registers, and the plug-ins it names."""
    monkeypatch.setenv("H2OT_PLUGINS", "")
    tables: list[dict[str, Any]] = [HOSTS, PRUNERS, RECOVERERS, METRICS, READERS, RUNTIMES]
    before = [dict(table) for table in tables]
    plugins._load.cache_clear()
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)
    plugins._load.cache_clear()


@pytest.fixture
def plugin(registries: None, tmp_path: Path) -> Path:
    """A file for ``--plugin``, with one of each kind.

    A host ``flat``, a pruner ``drawn`` with options ``seed`` and ``rand_seed``, a recoverer
    ``held`` with option ``side`` ("before", "after"), a metric ``output_spread``, a reader
    ``still`` and a runtime ``clipwise``.
    """
    path = tmp_path / "own.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def spy(registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Watch every host's forward passes, also of worker processes, which load it as a plug-in."""
    notes = tmp_path / "notes.jsonl"
    monkeypatch.setenv("H2OT_SPY", str(notes))
    monkeypatch.setenv("H2OT_PLUGINS", str(SPY))
    runpy.run_path(str(SPY))
    return Spy(notes)


@pytest.fixture
def spy_everywhere(spy: Spy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spy:
    """As ``spy``, in processes too that load no plug-ins."""
    folder = tmp_path / "site"
    folder.mkdir()
    load = f"import runpy\nrunpy.run_path({str(SPY)!r})\n"
    (folder / "sitecustomize.py").write_text(load)
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join(filter(None, [str(folder), str(SPY.parents[2]), before]))
    monkeypatch.setenv("PYTHONPATH", path)
    return spy
