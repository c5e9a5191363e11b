"""Hosts and strategies from outside the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import h2ot_core
from bench.cli import main
from bench.data.sequences import DataError
from bench.data.sources import open_data
from bench.data.windows import MotionSource
from bench.metrics import METRICS
from bench.models import plugins
from bench.models.build import measured_model
from bench.models.context import Context
from bench.models.resolve import resolve
from bench.records import store
from bench.records.errors import UsageError
from bench.scenarios.runtimes import RUNTIMES
from h2ot_core import HOSTS, PRUNERS, RECOVERERS, AbstractHost, AbstractRecoverer, ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tiny_transformer.py"


pytestmark = pytest.mark.usefixtures("registries")


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_the_example_under_every_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Memory and latency take a process of their own per case: see test_plugin_of_each_kind.
    monkeypatch.setattr("bench.scenarios.tables.METRICS", {"counts": METRICS["counts"]})
    monkeypatch.setattr("bench.scenarios.tables.measure_latency", lambda *_: None)
    records = tmp_path / "records.jsonl"
    arguments = ["run", "--plugin", str(EXAMPLE), "--host", "tiny", "--every-strategy"]
    arguments += ["--option", "width=16", "--option", "heads=2", "--rounds", "1", "--report"]
    arguments += ["--store", str(records), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    found = store.read(records)
    pairs = {(r.case.prune, r.case.recover) for r in found if r.metric == "param_count"}
    expected = {(prune, recover) for prune in PRUNERS for recover in RECOVERERS}
    assert "still" in PRUNERS
    assert pairs == {(None, None), *expected}
    assert all(r.status == "ok" for r in found)
    counted = {r.case: r.values[0] for r in found if r.metric == "param_count"}
    assert len(counted) == len(pairs)
    report = (tmp_path / "out" / "ablation.md").read_text()
    assert "tiny-f81-still+tri-r41,27-b1,2" in report


def test_the_example_obeys_the_loop() -> None:
    plugins.load(str(EXAMPLE))
    model = h2ot_core.build("tiny", prune="tpa", recover="tri", width=16, heads=2).eval()
    x = torch.randn(2, 81, 17, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model.run(x)
        again = model.run(x, selections=out.selections)
    torch.testing.assert_close(again.poses, out.poses)
    assert torch.equal(out.selections[-1].gather(out.poses), out.kept)
    still = h2ot_core.build("tiny", prune="still", recover="tri", width=16, heads=2, r=9, b=1)
    kept = still.eval().run(x).selections[0].index
    motion = x.diff(dim=1).abs().sum(dim=(2, 3))
    motion = torch.cat([motion[:, :1], motion], dim=1)
    assert torch.equal(kept, motion.topk(9, largest=False).indices.sort().values)


def test_everything_that_a_host_lacks_is_named_at_once() -> None:
    class Half(AbstractHost):
        sizes = {"frames": 9, "width": 4}  # noqa: RUF012

        def embed(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(ConfigError) as caught:
        h2ot_core.register("half", Half)
    text = str(caught.value)
    for lack in ("head(", "steps(", "depth, heads, joints", "channels"):
        assert lack in text
    assert "half" not in HOSTS


def test_names_and_options_must_be_free() -> None:
    class Other(AbstractRecoverer):
        options = {"tpc_k": 3}  # noqa: RUF012

        def recover(self, x: Any, selection: Any) -> Any:
            return x

    with pytest.raises(ConfigError, match=r"'tri' is in use.*|tpc_k are those of another"):
        h2ot_core.register("tri", Other)
    for name in ("scheme", "r", "frames", "width"):
        own = type("Own", (Other,), {"options": {name: 3}})
        with pytest.raises(ConfigError, match=f"options {name} are sizes of a host or arguments"):
            h2ot_core.register("own", own)
    assert "own" not in RECOVERERS
    with pytest.raises(ConfigError, match="lower case"):
        h2ot_core.register("Tri", Other)
    with pytest.raises(ConfigError, match="derived from AbstractHost"):
        h2ot_core.register("thing", dict)


def test_the_snippets_of_the_documentation_are_a_plugin(tmp_path: Path) -> None:
    page = (EXAMPLE.parents[1] / "docs" / "extending.md").read_text()
    file = tmp_path / "own.py"
    file.write_text("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    plugins.load(str(file))
    options = {"frames": 27, "width": 16, "depth": 4, "heads": 2, "seed": 5}
    case = resolve({"host": "mixste", "prune": "drawn", "recover": "nearest", **options})
    assert case.strategy_options == ("seed",)
    model = measured_model(case)
    x = torch.randn(2, 27, 17, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = model.run(x)
        torch.testing.assert_close(RUNTIMES["clipwise"].prepare(model, x)(x), out.poses)
    kept = out.selections[-1].index[0].tolist()
    for frame in range(27):
        nearest = min(kept, key=lambda k: (abs(k - frame), k))
        assert torch.equal(out.poses[:, frame], out.poses[:, nearest])
    (size,) = METRICS["weight_bytes"].measure(case, Context(MotionSource.generated(frames=300)))
    assert size.values[0] == 4 * sum(p.numel() for p in model.parameters())
    (tmp_path / "test").mkdir()
    poses = np.random.default_rng(0).normal(size=(9, 17, 3))
    np.savez(tmp_path / "test" / "walk.npz", x=poses[..., :2], metres=poses)
    (walk,) = open_data(f"arrays:{tmp_path}").sequences("test")
    np.testing.assert_allclose(walk.truth_mm, 1000 * (poses - poses[:, :1]), atol=1e-3)
    with pytest.raises(DataError, match="no folder nowhere"):
        open_data("arrays:nowhere")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("import nothing_of_that_name", "cannot be imported"),
        ("def (", "cannot be imported"),
        ("import h2ot_core\nh2ot_core.register('x', int)", "derived from AbstractHost"),
        ("\n\n1 / 0", r"ZeroDivisionError: division by zero \(.*plugin\.py, line 3\)"),
        ("from bench.metrics.base import Metric\nMetric()", "TypeError: .*title.*line 2"),
    ],
)
def test_a_plugin_that_does_not_work(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "plugin.py"
    file.write_text(content)
    with pytest.raises(UsageError, match=text):
        plugins.load(str(file))
    with pytest.raises(UsageError, match="no plug-in at"):
        plugins.load(str(tmp_path / "absent.py"))


def test_real_training_steps_of_a_small_case() -> None:
    from bench.data.windows import MotionSource
    from bench.metrics import training_step
    from bench.metrics.base import NotApplicable
    from bench.models.context import Context
    from bench.records.case import Case

    context = Context(MotionSource.generated(frames=300))
    small = (("depth", 2), ("heads", 2), ("width", 16))
    case = Case(host="mixste", frames=27, prune="tps", r=(9,), b=(1,), pipeline="seq2frame",
                options=small, threads=1)  # fmt: skip
    readings = {r.metric: r for r in training_step.measure(case, context)}
    steps, epoch = readings["training_step_s"], readings["training_epoch_min"]
    assert len(steps.values) == 2
    per_epoch = 1_559_752 // 243 * 2 // 4
    assert steps.protocol["steps_per_epoch"] == per_epoch
    assert epoch.values[0] == pytest.approx(sum(steps.values) / 2 * per_epoch / 60)
    assert readings["training_process_peak_bytes"].values[0] > 50e6
    with pytest.raises(NotApplicable, match="batch 4"):
        training_step.measure(Case(host="mhformer", frames=27, pipeline="seq2frame"), context)
