"""The comparison with a checkout, on one made here in the layout of a published repository."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from watched import Spy

from bench.cli import main
from bench.data.readers.motion import save_motion
from bench.data.synthetic.generator import generate
from bench.models import inputs
from bench.records import store
from bench.records.errors import UsageError
from bench.scenarios.peer import adapters
from h2ot_core import HOSTS, SCHEMES, build, load_published
from reports.build import build as build_report

# What the layout and the names have in common with HoT; the computation is this package's own.
MODEL = """
import torch
from torch import nn

import h2ot_core
from common.numbers import SCALE
from h2ot_core.checkpoints import published_names


class Model(nn.Module):
    def __init__(self, args):
        super().__init__()
        print("says something, as published code does")
        own = h2ot_core.build(
            "mixste", scheme="hot", frames=args.frames, width=args.channel, r=args.token_num,
            b=args.layer_index,
        )
        self.names = published_names(own)
        self.own = [own.eval()]

    def load_state_dict(self, weights):
        h2ot_core.load_published(self.own[0], weights)

    def to(self, *where):
        self.own[0].to(*where)
        return self

    def forward(self, x):
        noise = torch.rand((x.shape[0], x.shape[1]), device=x.device)
        {forward}
        return SCALE * self.own[0].run(x, noise=noise).poses
"""
SIZES = "--frames 9 --option width=16 --r 5 --b 1 --threads 1 --rounds 2"

Checkout = Callable[..., Path]
Said = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    def make(scale: str = "1.0", forward: str = "") -> Path:
        folder = tmp_path / "HoT"
        (folder / "model/mixste").mkdir(parents=True)
        (folder / "common").mkdir()
        (folder / "common/numbers.py").write_text(f"SCALE = {scale}\n")
        text = MODEL.replace("{forward}", forward)
        (folder / "model/mixste/hot_mixste.py").write_text(text)
        return folder

    return make


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A motion file that is quicker to read than motion is to make."""
    path = tmp_path_factory.mktemp("motion") / "short.npz"
    save_motion(path, generate(frames=60, split="test")[:2])
    return path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], motion: Path) -> Said:
    def run(command: str) -> tuple[int, str, str]:
        try:
            status = main(["peer", "--motion", str(motion), *shlex.split(command)])
        except SystemExit as end:  # how argparse ends
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_a_peer_that_agrees(
    checkout: Checkout, said: Said, tmp_path: Path, spy_everywhere: Spy
) -> None:
    records = tmp_path / "records.jsonl"
    folder = checkout()
    status, out, err = said(f"--peer {folder} {SIZES} --store {records}")
    assert status == 0, err
    assert "NationalGAILab/HoT (files-" in out
    assert "mixste-f9-tpc+tra-r5-b1-width=16" in out
    assert re.search(r"largest difference \S+ of the largest output in float64, limit 1e-04", out)
    assert re.search(
        r"peer / ours: \d+\.\d{3} \(no interval from fewer than 6 turns; 2 turns\)", out
    )
    assert "says something" not in out
    assert not list(folder.rglob("__pycache__"))
    kept = store.read(records)
    assert [r.metric for r in kept] == ["peer_output_difference"] + ["peer_latency_s"] * 2
    difference, first, second = kept
    labels = (
        "float32", "float32, 99% quantile", "float64", "peer nudged, 99% quantile",
        "uniform noise, float32, 99% quantile",
    )  # fmt: skip
    assert difference.labels == labels
    assert 0 < difference.values[3] < 1
    assert difference.values[4] < 1e-4
    assert difference.values[2] < 1e-10
    assert {*first.labels} == {"peer", "ours"}
    assert (first.part, second.part) == (0, 1)
    assert len({r.group for r in kept}) == 1
    assert first.protocol["peer"] == "NationalGAILab/HoT"
    assert first.protocol["versions"]["peer"]["torch"]
    report = build_report(records, tmp_path / "out").read_text()
    assert "## Beside published code" in report
    assert "NationalGAILab/HoT" in (tmp_path / "out/peers.csv").read_text()
    passes = spy_everywhere.passes()
    assert len({one.process for one in passes}) == 2
    assert {one[:2] for one in passes} == {(False, False)}


@pytest.mark.slow
def test_a_peer_that_computes_something_else(
    checkout: Checkout, said: Said, tmp_path: Path
) -> None:
    records = tmp_path / "records.jsonl"
    status, out, _ = said(f"--peer {checkout('1.001')} {SIZES} --store {records}")
    assert status == 1
    assert "the outputs differ, so nothing was timed" in out
    assert [r.metric for r in store.read(records)] == ["peer_output_difference"]
    assert "not timed" in build_report(records, tmp_path / "out").read_text()


@pytest.mark.slow
def test_training_steps_and_their_memory(
    checkout: Checkout, said: Said, tmp_path: Path, spy_everywhere: Spy
) -> None:
    records = tmp_path / "records.jsonl"
    folder = checkout()
    file = folder / "model/mixste/hot_mixste.py"
    learns = "self.body = own.eval()\n        self.own = [own]"  # a module with weights of its own
    file.write_text(file.read_text().replace("self.own = [own.eval()]", learns))
    status, out, err = said(f"--peer {folder} {SIZES} --training --store {records}")
    assert status == 0, err
    assert "batch 4, training step" in out
    told = re.search(r"peak memory of a step: (\S+) and (\S+) GiB, ours is (\S+)%", out)
    assert told
    assert float(told[3]) == pytest.approx(100, abs=5)  # the same model on both sides
    names = ["output_difference", "training_step_s", "training_step_s"]
    names.append("training_peak_estimated_bytes")
    assert [r.metric for r in store.read(records)] == [f"peer_{name}" for name in names]
    report = build_report(records, tmp_path / "out").read_text()
    assert "training step" in report
    assert "memory of a step" in report
    # What is compared beforehand are outputs.
    assert spy_everywhere.modes() == {(False, False), (True, True)}


@pytest.mark.slow
def test_our_side_in_another_runtime(checkout: Checkout, said: Said, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    status, out, err = said(f"--peer {checkout()} {SIZES} --runtime bf16 --store {records}")
    assert status == 0, err
    assert "ours as bf16" in out
    told = re.search(r"by (\S+) of the largest at most, (\S+) in the mean", out)
    assert told
    assert 0 < float(told[2]) < float(told[1]) < 0.5
    (difference, *_) = store.read(records)
    assert difference.labels[-2:] == ("runtime, largest", "runtime, mean")
    assert {r.protocol["runtime"] for r in store.read(records)} == {"bf16"}
    assert "bf16" in build_report(records, tmp_path / "out").read_text()


@pytest.mark.slow
def test_a_runtime_that_is_not_here(checkout: Checkout, said: Said) -> None:
    status, _, err = said(f"--peer {checkout()} {SIZES} --runtime cuda_graph")
    assert status == 2
    assert "runtime cuda_graph: needs a CUDA device" in err


def test_a_peer_without_its_packages(checkout: Checkout, said: Said) -> None:
    folder = checkout("1\nimport einops_of_another_name")
    status, out, err = said(f"--peer {folder} {SIZES}")
    assert (status, out) == (2, "")
    assert "needs the package 'einops_of_another_name'" in err
    assert "pip install -e '.[peer]'" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_peer_that_raises(checkout: Checkout, said: Said) -> None:
    folder = checkout(forward="raise ValueError('too many frames')")
    status, _, err = said(f"--peer {folder} {SIZES}")
    assert status == 2
    assert "error: NationalGAILab/HoT: ValueError: too many frames" in err


@pytest.mark.slow
def test_a_peer_that_ends(checkout: Checkout, said: Said) -> None:
    folder = checkout(forward="import os, sys; print('out of luck', flush=True); os._exit(3)")
    status, _, err = said(f"--peer {folder} {SIZES}")
    assert status == 2
    assert "NationalGAILab/HoT: the process ended with status 3: out of luck" in err


@pytest.mark.slow
def test_a_peer_of_another_shape(checkout: Checkout, said: Said) -> None:
    folder = checkout(forward="return x")
    status, _, err = said(f"--peer {folder} {SIZES}")
    assert status == 2
    assert "puts out (1, 9, 17, 2) where ours has (1, 9, 17, 3)" in err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--option depth=4", "NationalGAILab/HoT has no depth = 4"),
        ("--host mhformer --scheme hot", "it has --host mixste --scheme hot"),
        ("--rounds 0", "--rounds: must be at least 1, got 0"),
        ("--runtime turbo", "no runtime 'turbo'; there are eager"),
        ("--runtime bf16 --dtype bfloat16", "leave out --dtype"),
        ("--runtime bf16 --training", "leave out --runtime and --dtype"),
    ],
)
def test_what_cannot_be_asked_for(checkout: Checkout, said: Said, wrong: str, told: str) -> None:
    status, _, err = said(f"--peer {checkout()} {wrong}")
    assert status == 2
    assert told in err


def test_an_unknown_folder(said: Said, tmp_path: Path) -> None:
    status, _, err = said(f"--peer {tmp_path}")
    assert status == 2
    assert "is no checkout of a known repository" in err
    assert "NationalGAILab/HoT has model/mixste/hot_mixste.py" in err
    status, _, err = said(f"--peer {tmp_path / 'absent'}")
    assert status == 2
    assert "no folder at" in err


@pytest.mark.parametrize("name", adapters.PEERS)
def test_repositories_are_told_apart(name: str, tmp_path: Path) -> None:
    for mark in adapters.PEERS[name].marks:
        (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / mark).touch()
    assert adapters.recognise(tmp_path) == name


@pytest.mark.parametrize("name", adapters.PEERS)
def test_models_of_a_repository_are_ours_too(name: str) -> None:
    for (host, scheme), model in adapters.PEERS[name].models.items():
        with torch.device("meta"):
            ours = build(host, scheme=scheme, **model.sizes)
        assert {host, scheme} <= {*HOSTS, *SCHEMES}
        known = {"frames", "r", "b", *dict(ours.config.options)}
        assert {*model.free, *model.sizes} <= known
        assert adapters.choose(name, host, scheme) == (host, scheme)


def test_no_host_is_invented() -> None:
    with pytest.raises(UsageError, match="has no host None with scheme 'h2ot'"):
        adapters.choose("NationalGAILab/HoT", None, "h2ot")


def test_weights_depend_on_names_alone() -> None:
    small = {"frames": 9, "width": 16, "depth": 2, "heads": 2}
    model = build("motionagformer", scheme="none", **small)
    one, other = (
        inputs.weights(model),
        inputs.weights(build("motionagformer", scheme="none", **small)),
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    load_published(model, one)
    assert all((v > 0).all() for name, v in one.items() if name.endswith("running_var"))
    matrix = one["layers.0.att_spatial.mlp.fc1.weight"]
    assert np.isclose(matrix.std().item(), 0.05, rtol=0.1)
