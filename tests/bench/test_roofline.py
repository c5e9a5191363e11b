"""Rates of the machine, bytes of a model, and the bound that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.cli import main
from bench.records import roofline_bound, store
from bench.records.case import Case
from bench.records.environment import environment
from bench.records.record import Record
from bench.records.store import open_store
from bench.scenarios import roofline
from h2ot_core import kernels
from reports.build import build

CASE = Case(
    host="mixste", frames=9, prune="tps", recover="tri", r=(5,), b=(1,),
    options=(("depth", 2), ("heads", 2), ("width", 16)),
)  # fmt: skip


class Calls(nn.Module):
    """A module made of one function."""

    def __init__(self, work: Callable[[Any, Tensor], Tensor], **own: Tensor) -> None:
        super().__init__()
        self.work = work
        for name, value in own.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.work(self, x)


def moved(model: nn.Module, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[int, int]:
    found = roofline.traffic(
        model.to("meta", dtype), torch.empty(shape, device="meta", dtype=dtype)
    )
    return found.parameters, found.activations


def test_a_linear_layer_reads_weight_bias_and_input_and_writes_its_output() -> None:
    layer = nn.Linear(3, 5)
    assert moved(layer, 2, 7, 3) == (4 * (15 + 5), 4 * (2 * 7 * 3 + 2 * 7 * 5))
    assert moved(nn.Linear(3, 5, bias=False), 2, 3) == (4 * 15, 4 * (6 + 10))
    assert moved(nn.Linear(3, 5), 2, 3, dtype=torch.bfloat16) == (2 * 20, 2 * (6 + 10))


def test_fused_attention_never_writes_its_weights() -> None:
    attention = Calls(lambda _, x: nn.functional.scaled_dot_product_attention(x, x, x))
    assert moved(attention, 2, 4, 9, 8) == (0, 4 * 4 * (2 * 4 * 9 * 8))


def test_views_and_empty_tensors_are_free() -> None:
    assert moved(Calls(lambda _, x: x.transpose(0, 1).unsqueeze(0)[..., :2]), 3, 4) == (0, 0)
    assert moved(Calls(lambda _, x: torch.empty_like(x)), 3, 4) == (0, 0)
    copied = Calls(lambda _, x: x.transpose(0, 1).contiguous())
    assert moved(copied, 3, 4) == (0, 4 * (12 + 12))


def test_what_is_broadcast_is_read_once() -> None:
    added = Calls(lambda own, x: x + own.row.expand(6, 4), row=torch.zeros(4))
    assert moved(added, 6, 4) == (4 * 4, 4 * (24 + 24))


def test_what_is_changed_in_place_is_read_and_written() -> None:
    assert moved(Calls(lambda _, x: x.add_(1)), 6, 4) == (0, 4 * (24 + 24))


def test_picking_moves_what_is_picked() -> None:
    picked = Calls(lambda own, x: x.index_select(0, own.index), index=torch.tensor([0, 2]))
    with torch.no_grad():
        found = roofline.traffic(picked.to("meta"), torch.empty(100, 4, device="meta"))
    assert found.parameters == 2 * 8
    assert found.activations == 4 * (8 + 8)


def test_a_block_by_hand() -> None:
    """Norm, two layers with GELU between, residual; n tokens of width c."""
    n, c = 10, 6
    block = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c))
    model = Calls(lambda own, x: x + own.block(x))
    model.block = block
    parameters = 2 * c + (2 * c * c + 2 * c) + (2 * c * c + c)
    norm = n * c + n * c + 2 * n  # the operator also writes mean and scale of each token
    activations = norm + 3 * n * c + 4 * n * c + 3 * n * c + 3 * n * c
    assert moved(model, n, c) == (4 * parameters, 4 * activations)


def test_a_case_moves_more_with_its_batch_and_less_with_its_dtype() -> None:
    one, four = roofline.case_traffic(CASE), roofline.case_traffic(replace(CASE, batch=4))
    assert one.parameters == four.parameters
    # Some axes cannot be folded without a copy once there is more than one clip.
    assert 3.5 * one.activations < four.activations < 4.5 * one.activations
    half = roofline.case_traffic(replace(CASE, dtype="bfloat16"))
    assert 0.4 * one.total < half.total < 0.6 * one.total
    full = roofline.case_traffic(CASE.baseline)
    assert one.activations < full.activations


def test_clustering_can_be_counted() -> None:
    case = replace(CASE, prune="tpc", recover="tra")
    assert roofline.case_traffic(case).total > 0


def test_rates_are_positive() -> None:
    rates = roofline.peak_flops("cpu", "float32", side=8)
    assert min(rates) > 0
    with kernels.plain():
        assert (
            len(roofline.peak_flops("cpu", "float32", side=8)) < len(rates)
            or not kernels.supported_types()
        )
    assert min(roofline.bandwidth("cpu", size=4096)) > 0


# --- bounds ------------------------------------------------------------------------------------


def record(case: Case, metric: str, *values: float, labels: tuple[str, ...] = ()) -> Record:
    return Record(
        case=case, metric=metric, unit="1", values=values, labels=labels, session="s",
        environment=environment(torch.get_num_threads()),
    )  # fmt: skip


def records(case: Case = CASE) -> list[Record]:
    machine = roofline_bound.machine_case(case)
    return [
        record(case, "latency_s", 0.5, 0.3, 0.4),
        record(case, "flops_full", 1e9, labels=("all",)),
        record(machine, roofline_bound.FLOPS, 8e9, 1e10, 9e9),
        record(machine, roofline_bound.BANDWIDTH, 1e9),
        record(case, roofline_bound.MOVED, 5e7, 1.5e8, labels=("parameters", "activations")),
    ]


def test_the_larger_need_is_the_bound() -> None:
    (row,) = roofline_bound.limits(records())
    assert row.compute_s == pytest.approx(0.1)  # the best of the rates counts
    assert row.memory_s == pytest.approx(0.2)
    assert (row.ruled_by, row.bound_s, row.times) == ("memory", row.memory_s, pytest.approx(2))


def test_flops_are_counted_for_one_clip_and_bytes_for_the_batch() -> None:
    (row,) = roofline_bound.limits(records(replace(CASE, batch=4)))
    assert row.flops == 4e9
    assert row.moved_bytes == 2e8
    assert row.ruled_by == "arithmetic"


def test_without_rates_there_is_no_bound() -> None:
    (row,) = roofline_bound.limits(records()[:2])
    assert (row.bound_s, row.times, row.ruled_by) == (None, None, "")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not work for long."""
    monkeypatch.setattr(roofline, "peak_flops", lambda device, dtype: [1e10])
    monkeypatch.setattr(roofline, "bandwidth", lambda device: [1e9])


@pytest.mark.usefixtures("quick")
def test_the_command_measures_what_the_store_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    stamp = environment(torch.get_num_threads())["fingerprint"]
    with open_store(path, environment=stamp, note=[]) as file:
        file.append(records()[:2])
    assert main(["roofline", "--store", str(path)]) == 0
    out = capsys.readouterr().out
    assert "cpu, float32: 10.0 GFLOP/s" in out
    assert CASE.label in out
    found = store.read(path)
    assert [r.metric for r in found[2:]] == list(roofline_bound.METRICS)
    assert main(["roofline", "--store", str(path)]) == 0
    assert len(store.read(path)) == len(found)
    report = build(path, tmp_path / "out").read_text()
    assert "## Times the limit" in report
    assert "machine" not in (tmp_path / "out/further.csv").read_text()
    assert (tmp_path / "out/roofline.csv").is_file()


@pytest.mark.usefixtures("quick")
def test_the_machine_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "records.jsonl"
    assert main(["roofline", "--store", str(path)]) == 0
    assert "cpu, float32: 1.0 Gbyte/s" in capsys.readouterr().out
    assert "## Times the limit" in build(path, tmp_path / "out").read_text()


def test_rows_of_another_machine_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    strange = {"fingerprint": "another", "threads": torch.get_num_threads()}
    with open_store(path, environment="another", note=[]) as file:
        file.append(replace(r, environment=strange) for r in records()[:2])
    assert main(["roofline", "--store", str(path)]) == 2
    assert "of other code or another machine" in capsys.readouterr().err
    assert len(store.read(path)) == 2
