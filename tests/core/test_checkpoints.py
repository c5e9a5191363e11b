"""Reading weight files safely, and fitting them to a model strictly."""

from __future__ import annotations

import os
import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from h2ot_core import CheckpointError, Hourglass, load_published
from h2ot_core.checkpoints import published_names, read_weights

Build = Callable[..., Hourglass]
Weights = dict[str, Tensor]

ZIP = pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])


def save(content: object, path: Path, zip_format: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zip_format)
    return path


@pytest.fixture(scope="module")
def host(small: Build) -> Hourglass:
    return small(scheme="none", depth=2)


@pytest.fixture(scope="module")
def weights(host: Hourglass) -> Weights:
    """The host's weights under published names."""
    return {theirs: host.state_dict()[ours] for theirs, ours in published_names(host).items()}


@pytest.fixture
def blank(small: Build) -> Hourglass:
    return small(seed=1, scheme="none", depth=2)


def assert_same(model: Hourglass, host: Hourglass) -> None:
    for name, value in host.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def parallel(weights: Weights) -> Weights:
    return {f"module.{name}": value for name, value in weights.items()}


# What published checkpoints carry beside the weights, by numpy's ways of pickling it.
BESIDE = {
    "epoch": 1,
    "lr": np.float64(4e-5),
    "best": np.float32(40.9),
    "step": np.int64(7),
    "flag": np.bool_(True),
    "losses": np.arange(6.0).reshape(2, 3),
    "names": np.array(["Directions", "Eating"]),
    "mixed": np.array([1, None], dtype=object),
    "dtype": np.dtype("float32"),
    "random_state": np.random.RandomState(0),
    "unseeded": np.random.RandomState(),
    "legacy_state": np.random.RandomState(0).get_state(),
    **{
        f"generator_{kind.__name__}": np.random.Generator(kind(0))
        for kind in (
            np.random.MT19937,
            np.random.PCG64,
            np.random.PCG64DXSM,
            np.random.Philox,
            np.random.SFC64,
        )
    },
    "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": []},
    "min_loss": 40.9,
    "wandb_id": None,
}

WRAPPED: dict[str, Callable[[Weights], object]] = {
    "bare": lambda w: w,
    "ordered": OrderedDict,
    "parallel": parallel,
    "mixste": lambda w: {**BESIDE, "model_pos": parallel(w)},
    "motionagformer": lambda w: {**BESIDE, "model": parallel(w)},
    "state_dict": lambda w: {"state_dict": w},
    "diffpose": lambda w: [parallel(w), {"state": {}}, 5, np.float64(0.1)],
}


@ZIP
@pytest.mark.parametrize("wrapping", WRAPPED)
def test_published_files(
    tmp_path: Path,
    blank: Hourglass,
    host: Hourglass,
    weights: Weights,
    wrapping: str,
    zip_format: bool,
) -> None:
    path = save(WRAPPED[wrapping](weights), tmp_path / "best_epoch.bin", zip_format)
    assert load_published(blank, path) is blank
    assert_same(blank, host)
    assert_same(load_published(blank, str(path)), host)


@pytest.mark.parametrize("wrapping", [name for name in WRAPPED if name != "diffpose"])
def test_state_dicts_in_memory(
    blank: Hourglass, host: Hourglass, weights: Weights, wrapping: str
) -> None:
    assert_same(load_published(blank, WRAPPED[wrapping](weights)), host)  # type: ignore[arg-type]


@ZIP
@pytest.mark.parametrize("name", BESIDE)
def test_each_kind_of_value_beside_the_weights(tmp_path: Path, name: str, zip_format: bool) -> None:
    path = save({name: BESIDE[name], "w": torch.arange(3)}, tmp_path / "x.pth", zip_format)
    content = read_weights(path)
    assert list(content) == [name, "w"]
    assert content["w"].tolist() == [0, 1, 2]


def test_random_states_of_older_numpy(tmp_path: Path) -> None:
    """As written by numpy 1.16 and 1.17, names and arguments as in such files."""

    class Reduced:
        def __init__(self, *reduced: object) -> None:
            self.reduced = reduced

        def __reduce__(self) -> Any:
            return self.reduced

    names = {"first": np.random.__RandomState_ctor}
    names["second"] = np.random._pickle.__randomstate_ctor
    key = np.random.RandomState(0).get_state()
    content = {
        "first": Reduced(names["first"], (), key),
        "second": Reduced(names["second"], ("MT19937",), {"bit_generator": "MT19937"}),
        "w": torch.ones(1),
    }
    assert read_weights(save(content, tmp_path / "old.bin"))["w"].tolist() == [1]


# --- files that are not what they should be


class Touch:
    """Would create a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Shell:
    """Would run a command when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@ZIP
@pytest.mark.parametrize(
    ("hostile", "named"), [(Touch, r"getattr|pathlib"), (Shell, r"(posix|nt)\.system")]
)
def test_a_hostile_file_is_refused_by_name(
    tmp_path: Path, weights: Weights, hostile: type, named: str, zip_format: bool
) -> None:
    trace = tmp_path / "trace"
    path = save({"model_pos": weights, "lr": hostile(trace)}, tmp_path / "x.bin", zip_format)
    with pytest.raises(CheckpointError, match=rf"x\.bin was not loaded: it refers to ({named})"):
        read_weights(path)
    assert not trace.exists()
    # The same bytes, read without care, do what they were made to.
    torch.load(path, weights_only=False)
    assert trace.exists()


class Forged:
    """An array whose elements would be objects at addresses that the file gives."""

    def __reduce__(self) -> Any:
        return np.ndarray, ((1,), "O", bytes(8))


class Counted:
    """Makes torch's reader look at the elements of one."""

    def __reduce__(self) -> Any:
        return Counter, (Forged(),)


@ZIP
def test_no_numpy_object_is_made_from_a_file(tmp_path: Path, zip_format: bool) -> None:
    content = read_weights(save({"x": Forged()}, tmp_path / "x.bin", zip_format))
    assert type(content["x"]).__module__ == "h2ot_core.checkpoints"
    with pytest.raises(CheckpointError, match="not iterable"):
        read_weights(save({"x": Counted()}, tmp_path / "x.bin", zip_format))


class Unknown(torch.nn.Linear):
    pass


@ZIP
def test_a_pickled_module_is_refused_by_name(tmp_path: Path, zip_format: bool) -> None:
    path = save([Unknown(1, 1)], tmp_path / "x.bin", zip_format)
    with pytest.raises(CheckpointError, match=r"refers to \w*test_checkpoints\.Unknown\. Only"):
        read_weights(path)


def test_a_plain_pickle_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(Touch(tmp_path / "trace"), protocol=2))
    with pytest.raises(CheckpointError, match=r"refers to (getattr|pathlib)"):
        read_weights(path)
    assert not (tmp_path / "trace").exists()


@ZIP
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_a_truncated_file(tmp_path: Path, weights: Weights, share: float, zip_format: bool) -> None:
    path = save({**BESIDE, "model_pos": weights}, tmp_path / "x.bin", zip_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"x\.bin is not a complete PyTorch checkpoint \(\w+"):
        read_weights(path)


@ZIP
def test_a_damaged_file_never_raises_anything_else(
    tmp_path: Path, weights: Weights, zip_format: bool
) -> None:
    small = dict(list(weights.items())[:2])
    content = save({"lr": np.float64(1), "w": small}, tmp_path / "x.bin", zip_format).read_bytes()
    generator = np.random.default_rng(0)
    refused = []
    for trial in range(200):
        damaged = bytearray(content)
        for at in generator.integers(0, len(content), 3):
            damaged[at] = generator.integers(256)
        path = tmp_path / f"{trial}.bin"
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(
        "is not a complete PyTorch checkpoint" in text or "refers to" in text for text in refused
    )


@pytest.mark.parametrize(
    ("content", "cause"), [(b"", "EOFError"), (b"epoch,loss\n1,40.9\n", "IndexError|Unpickling")]
)
def test_a_file_of_another_kind(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "log.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"log\.pth is not a complete .* \(({cause})"):
        read_weights(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(CheckpointError, match=re.escape(f"no weight file at {path}.")):
            read_weights(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "found nothing"),
        ([], "found list"),
        (3, "found int"),
        ({"epoch": 1, "optimizer": {}}, "found epoch, optimizer"),
        ({"model_pos": {"a": 1}}, "found a;"),
        ({f"k{i}": i for i in range(10)}, "k7 and 2 more"),
    ],
)
def test_a_file_without_weights(
    tmp_path: Path, blank: Hourglass, content: object, found: str
) -> None:
    path = save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"holds no state dict: .*{found}"):
        load_published(blank, path)


# --- weights that do not fit


def test_every_misfit_is_named(blank: Hourglass, weights: Weights) -> None:
    before = {name: value.clone() for name, value in blank.state_dict().items()}
    wrong = dict(weights)
    del wrong["STEblocks.0.norm1.weight"]
    wrong["pos_embed_token"] = torch.zeros(1, 9, 16)
    wrong["head.1.weight"] = torch.zeros(3, 8)
    with pytest.raises(CheckpointError) as caught:
        load_published(blank, wrong)
    text = str(caught.value)
    assert "1 missing: STEblocks.0.norm1.weight" in text
    assert "1 surplus: pos_embed_token" in text
    assert "1 misshapen: head.1.weight (file (3, 8), model (3, 16))" in text
    assert "the state dict does not fit this model (mixste, seq2seq, frames=27" in text
    for name, value in blank.state_dict().items():
        assert torch.equal(value, before[name])  # nothing was loaded in part


def test_many_misfits_are_counted(blank: Hourglass, weights: Weights) -> None:
    few = dict(list(weights.items())[:3])
    message = rf"{len(weights) - 3} missing: .* and {len(weights) - 11} more"
    with pytest.raises(CheckpointError, match=message):
        load_published(blank, few)


def test_hot_weights_do_not_fit_the_baseline(small: Build, blank: Hourglass) -> None:
    hot = small(scheme="hot", depth=2, r=9, b=1)
    names = published_names(hot)
    published = {theirs: hot.state_dict()[ours] for theirs, ours in names.items()}
    with pytest.raises(CheckpointError) as caught:
        load_published(blank, published)
    text = str(caught.value)
    assert "10 surplus: " in text
    for key in ("x_token", "pos_embed_token", "cross_attention.linear_q.weight"):
        assert key in text
    assert "missing" not in text


def test_weights_for_another_number_of_frames(small: Build, weights: Weights) -> None:
    model = small(scheme="none", depth=2, frames=9)
    message = r"1 misshapen: Temporal_pos_embed \(file \(1, 27, 16\), model \(1, 9, 16\)\)"
    with pytest.raises(CheckpointError, match=message):
        load_published(model, weights)
