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

FILES = {
    "mixste": ("small", "full"),
    "hot_mixste": ("small", "full"),
    "tpc_mixste": ("small", "full"),
    "motionbert": ("small", "full"),
    "hot_motionbert": ("small", "full"),
    "motionagformer": ("small", "full"),
    "hot_motionagformer": ("small", "full"),
    "mhformer": ("small", "small36", "full"),
    "tpc_mhformer": ("small", "small36", "full"),
}
SMALL = [(name, size) for name, sizes in FILES.items() for size in sizes if size != "full"]
PRUNING = [(name, size) for name, size in SMALL if name.startswith(("hot_", "tpc_"))]
DTYPES = [torch.float32, torch.float64]


def weight(key: str, shape: list[int], strong: bool) -> NDArray[np.float32]:
    """The reference weights, which depend on key and shape alone."""
    matrix, vector = (0.25, 0.25) if strong else (0.05, 0.02)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    normal = np.asarray(generator.standard_normal(tuple(shape))).astype("float32")
    if key.endswith("running_var"):
        return np.float32(1) + np.float32(0.5 if strong else 0.1) * np.abs(normal)
    if len(shape) >= 2:
        return np.float32(matrix) * normal
    gain = np.float32(1 if key.endswith("weight") else 0)
    return gain + np.float32(vector) * normal


class Reference:
    """One recorded configuration, and this library's model of it."""

    def __init__(self, folder: Path, name: str, size: str) -> None:
        self.scheme, _, host = name.rpartition("_")
        self.manifest = json.loads((folder / f"{name}_{size}.json").read_text())
        with np.load(folder / f"{name}_{size}.npz", allow_pickle=False) as arrays:
            self.arrays = dict(arrays)
        config = self.manifest["config"]
        sizes = {
            "width": config.get("channel") or config.get("dim_feat"),
            "depth": config.get("layers") or config.get("n_layers") or config.get("depth"),
        }
        if "d_hid" in config:
            sizes["mlp_hidden"] = config["d_hid"]
        if "dim_rep" in config:
            sizes["rep_width"] = config["dim_rep"]
        if host == "motionagformer":  # HoT's copy, not the original's 8 and 2
            sizes |= {"heads": 4, "neighbours": 4}
        if self.scheme:
            sizes |= {"r": config["token_num"], "b": config["layer_index"]}
        self.model = build(
            host, scheme=self.scheme or "none", frames=config["frames"], **sizes
        ).eval()

    def load(self, *, strong: bool) -> Hourglass:
        weights = {
            key: torch.from_numpy(weight(key, shape, strong))
            if not key.endswith("num_batches_tracked")
            else torch.tensor(0)
            for key, shape in self.manifest["state_dict"].items()
        }
        return load_published(self.model.float(), weights)

    def x(self) -> Tensor:
        generator = np.random.Generator(np.random.PCG64(self.manifest["seed"]))
        shape = self.manifest["input_shape"]
        return torch.from_numpy(generator.uniform(-1, 1, shape).astype("float32"))

    def noise(self) -> Tensor | None:
        return torch.from_numpy(self.arrays["noise_rand"]) if self.scheme else None

    def run(self, dtype: torch.dtype, **arguments: Any) -> tuple[NDArray[Any], Any]:
        """The output that the reference recorded, and the kept frames."""
        with torch.no_grad():
            out = self.model.to(dtype).run(self.x().to(dtype), **arguments)
        # Published seq2frame models put out all kept frames.
        y = out.kept if self.model.config.pipeline == "seq2frame" else out.poses
        if "frames" in self.arrays:
            y = y[:, self.arrays["frames"]]
        return y.numpy(), out.selections[0].index.numpy() if out.selections else None


def distance(y: NDArray[Any], expected: NDArray[Any]) -> float:
    assert y.shape == expected.shape
    return float(np.abs(y - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    return shared_dir / "parity" / "public"


@pytest.fixture(scope="module", params=SMALL, ids="-".join)
def recorded(request: pytest.FixtureRequest, folder: Path) -> Reference:
    return Reference(folder, *request.param)


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name, sizes in FILES.items() for size in sizes]
)
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
    if dtype == torch.float32 and strong:
        # MotionBERT's published code itself is further off than that in float32.
        theirs = recorded.arrays["strong_y"].astype("float64")
        tolerance = max(tolerance, 4 * distance(theirs, recorded.arrays["strong_y64"]))
    assert distance(y, recorded.arrays[f"{prefix}y64"]) <= tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "size"), PRUNING)
def test_small_with_recorded_selection(
    folder: Path, name: str, size: str, dtype: torch.dtype
) -> None:
    reference = Reference(folder, name, size)
    model = reference.load(strong=False)
    given = Selection(torch.from_numpy(reference.arrays["index"]), model.config.frames)
    y, index = reference.run(dtype, selections=[given])
    assert np.array_equal(index, reference.arrays["index"])
    assert distance(y, reference.arrays["y64"]) <= (1e-5 if dtype == torch.float32 else 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_full(folder: Path, name: str) -> None:
    full = Reference(folder, name, "full")
    full.load(strong=False)
    noise = full.noise()
    # MotionAGFormer's graph has near ties that fall differently in float32.
    exact = "motionagformer" in name
    y, index = full.run(torch.float64 if exact else torch.float32, noise=noise)
    expected = full.arrays["y64" if noise is None else "noise_y64"]
    if noise is not None:
        assert np.array_equal(index, full.arrays["noise_index"])
    assert y.shape == expected.shape
    tolerance = 1e-10 if exact else 2e-5
    assert np.abs(y - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FILES if "motionagformer" in name])
def test_full_in_float32_but_for_near_ties(folder: Path, name: str) -> None:
    full = Reference(folder, name, "full")
    full.load(strong=False)
    noise = full.noise()
    y, _ = full.run(torch.float32, noise=noise)
    theirs, exact = (full.arrays[key if noise is None else f"noise_{key}"] for key in ("y", "y64"))
    largest = np.abs(theirs).max()

    def most(apart: NDArray[Any]) -> float:
        return float(np.quantile(np.abs(apart) / largest, 0.99))

    # Where a processor settles ties in another way, it may be as far off as theirs.
    assert most(y - theirs) <= max(1e-4, 2 * most(theirs - exact))
