"""Agreement with recorded outputs of the published implementations."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from h2ot_core import Hourglass, Selection, build, load_published
from h2ot_core.checkpoints import published_names

pytestmark = pytest.mark.data

SCHEMES = {"mixste": "none", "hot_mixste": "hot", "tpc_mixste": "tpc"}
PRUNING = [name for name, scheme in SCHEMES.items() if scheme != "none"]
DTYPES = [torch.float32, torch.float64]


def weight(key: str, shape: list[int], strong: bool) -> NDArray[np.float32]:
    """The reference weights, which depend on key and shape alone."""
    matrix, vector = (0.25, 0.25) if strong else (0.05, 0.02)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    normal = np.asarray(generator.standard_normal(tuple(shape))).astype("float32")
    if len(shape) >= 2:
        return np.float32(matrix) * normal
    gain = np.float32(1 if key.endswith("weight") else 0)
    return gain + np.float32(vector) * normal


class Reference:
    """One recorded configuration, and this library's model of it."""

    def __init__(self, folder: Path, name: str, size: str) -> None:
        self.name = name
        self.manifest = json.loads((folder / f"{name}_{size}.json").read_text())
        with np.load(folder / f"{name}_{size}.npz", allow_pickle=False) as arrays:
            self.arrays = dict(arrays)
        config = self.manifest["config"]
        schedule = {"r": config["token_num"], "b": config["layer_index"]}
        self.model = build(
            "mixste",
            scheme=SCHEMES[name],
            frames=config["frames"],
            width=config["channel"],
            mlp_hidden=config["d_hid"],
            depth=config["layers"],
            **(schedule if name in PRUNING else {}),
        ).eval()

    def load(self, *, strong: bool) -> Hourglass:
        keys = self.manifest["state_dict"].items()
        weights = {key: torch.from_numpy(weight(key, shape, strong)) for key, shape in keys}
        return load_published(self.model.float(), weights)

    def x(self) -> Tensor:
        generator = np.random.Generator(np.random.PCG64(self.manifest["seed"]))
        shape = self.manifest["input_shape"]
        return torch.from_numpy(generator.uniform(-1, 1, shape).astype("float32"))

    def noise(self) -> Tensor | None:
        return torch.from_numpy(self.arrays["noise_rand"]) if self.name in PRUNING else None

    def run(self, dtype: torch.dtype, **arguments: Any) -> tuple[NDArray[Any], Any]:
        """The output that the reference recorded, and the kept frames."""
        with torch.no_grad():
            out = self.model.to(dtype).run(self.x().to(dtype), **arguments)
        # The published TPC model puts out all kept frames.
        y = out.kept if self.name == "tpc_mixste" else out.poses
        if "frames" in self.arrays:
            y = y[:, self.arrays["frames"]]
        return y.numpy(), out.selections[0].index.numpy() if out.selections else None


def distance(y: NDArray[Any], expected: NDArray[Any]) -> float:
    assert y.shape == expected.shape
    return float(np.abs(y - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    return shared_dir / "parity" / "public"


@pytest.fixture(scope="module", params=SCHEMES)
def recorded(request: pytest.FixtureRequest, folder: Path) -> Reference:
    return Reference(folder, request.param, "small")


@pytest.fixture(scope="module", params=SCHEMES)
def full(request: pytest.FixtureRequest, folder: Path) -> Reference:
    return Reference(folder, request.param, "full")


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("name", SCHEMES)
def test_weights_have_published_names_and_shapes(folder: Path, name: str, size: str) -> None:
    with torch.device("meta"):
        reference = Reference(folder, name, size)
    own = reference.model.state_dict()
    names = published_names(reference.model)
    shapes = {theirs: list(own[ours].shape) for theirs, ours in names.items()}
    assert shapes == reference.manifest["state_dict"]
    count = sum(p.numel() for p in reference.model.parameters())
    assert count == reference.manifest["parameter_count"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("strong", [False, True], ids=["base", "strong"])
def test_small(recorded: Reference, strong: bool, dtype: torch.dtype) -> None:
    recorded.load(strong=strong)
    assert np.array_equal(recorded.x().numpy(), recorded.arrays["x"])
    noise = recorded.noise()
    y, index = recorded.run(dtype, noise=noise)
    prefix = "strong_" if strong else "" if noise is None else "noise_"
    if noise is not None:
        assert np.array_equal(index, recorded.arrays[f"{prefix}index"])
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert distance(y, recorded.arrays[f"{prefix}y64"]) <= tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PRUNING)
def test_small_with_recorded_selection(folder: Path, name: str, dtype: torch.dtype) -> None:
    reference = Reference(folder, name, "small")
    model = reference.load(strong=False)
    given = Selection(torch.from_numpy(reference.arrays["index"]), model.config.frames)
    y, index = reference.run(dtype, selections=[given])
    assert np.array_equal(index, reference.arrays["index"])
    assert distance(y, reference.arrays["y64"]) <= (1e-5 if dtype == torch.float32 else 1e-10)


@pytest.mark.slow
def test_full(full: Reference) -> None:
    full.load(strong=False)
    noise = full.noise()
    y, index = full.run(torch.float32, noise=noise)
    expected = full.arrays["y64" if noise is None else "noise_y64"]
    if noise is not None:
        assert np.array_equal(index, full.arrays["noise_index"])
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= 2e-5 * np.abs(expected).max()
