"""Published repositories: how to recognise one by its files, and how to build and call its models.

One row of PEERS per repository, one row of its ``models`` per host and scheme. Nothing of theirs
is held here but names and arguments, read at the commits below.

- NationalGAILab/HoT 873b5bd
- JinluZhang1126/MixSTE 72a36be
- Walter0807/MotionBERT dccfe7b
- TaatiTeam/MotionAGFormer 4756fd1
- Vegetebird/MHFormer eba3cc3
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from torch import nn

from bench.records import git
from bench.records.errors import UsageError
from bench.records.files import folder_digest

Sizes = Mapping[str, Any]
"""What ``h2ot_core.build`` resolved: frames, r, b and the sizes of the host."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of a repository.

    Attributes:
        module: to import from the checkout.
        make: from the imported module and the sizes to a model with any weights. It maps
            (B, F, J, C_in) to (B, F, J, 3), or to (B, r, J, 3) of the kept frames where only the
            centre is wanted, alone or as the first of a tuple.
        free: sizes that are arguments of the published code; the others are constants in it.
        sizes: published sizes that are not the defaults of ``h2ot_core.build``.
        double: whether outputs are compared in float64. TPC ranks frames by distances, and
            the graph of MotionAGFormer joins them by similarities; consecutive frames of motion
            are so alike that rounding to float32 decides between some, and not even the published
            code would agree with itself in another order of summation.
    """

    module: str
    make: Callable[[ModuleType, Sizes], nn.Module]
    free: tuple[str, ...]
    sizes: Sizes = field(default_factory=dict)
    double: bool = False


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A published repository.

    Attributes:
        marks: files that no other of them has together.
        models: (host, scheme) to its model, the default first.
    """

    marks: tuple[str, ...]
    models: Mapping[tuple[str, str], Model]


def _namespace(sizes: Sizes) -> SimpleNamespace:
    """The argument object of HoT and MHFormer, with every name that a model of theirs reads."""
    frames, width = sizes["frames"], sizes["width"]
    r, b = sizes["r"], sizes["b"]
    return SimpleNamespace(
        frames=frames, maxlen=frames, channel=width, layers=sizes["depth"],
        d_hid=sizes["mlp_hidden"] or 2 * width, n_joints=sizes["joints"],
        out_joints=sizes["joints"], token_num=r[0] if r else frames, layer_index=b[0] if b else 0,
    )  # fmt: skip


def _by_namespace(module: ModuleType, sizes: Sizes) -> nn.Module:
    return module.Model(_namespace(sizes))


def _mixste(module: ModuleType, sizes: Sizes) -> nn.Module:
    width = sizes["width"]
    return module.MixSTE2(
        num_frame=sizes["frames"], num_joints=sizes["joints"], in_chans=2, embed_dim_ratio=width,
        depth=sizes["depth"], num_heads=sizes["heads"],
        mlp_ratio=(sizes["mlp_hidden"] or 2 * width) / width, qkv_bias=True, qk_scale=None,
        drop_path_rate=0,
    )  # fmt: skip


def _motionbert(module: ModuleType, sizes: Sizes) -> nn.Module:
    width = sizes["width"]
    return module.DSTformer(
        dim_in=3, dim_out=3, dim_feat=width, dim_rep=sizes["rep_width"], depth=sizes["depth"],
        num_heads=sizes["heads"], mlp_ratio=(sizes["mlp_hidden"] or 4 * width) / width,
        norm_layer=partial(nn.LayerNorm, eps=1e-6), maxlen=sizes["frames"],
        num_joints=sizes["joints"],
    )  # fmt: skip


def _motionagformer(module: ModuleType, sizes: Sizes) -> nn.Module:
    width = sizes["width"]
    return module.MotionAGFormer(
        n_layers=sizes["depth"], dim_in=3, dim_feat=width, dim_rep=sizes["rep_width"],
        mlp_ratio=(sizes["mlp_hidden"] or 4 * width) / width, num_heads=sizes["heads"],
        neighbour_num=sizes["neighbours"], n_frames=sizes["frames"],
    )  # fmt: skip


def _hot(module: str, *free: str, sizes: Sizes | None = None, double: bool = False) -> Model:
    return Model(module=module, make=_by_namespace, free=free, sizes=sizes or {}, double=double)


_AG = {"heads": 4, "neighbours": 4}  # of HoT's copy
_ALL = ("frames", "width", "depth", "heads", "mlp_hidden")

PEERS: dict[str, Peer] = {
    "NationalGAILab/HoT": Peer(
        marks=("model/mixste/hot_mixste.py",),
        models={
            ("mixste", "hot"): _hot(
                "model.mixste.hot_mixste", "frames", "width", "r", "b", double=True
            ),
            ("mixste", "none"): _hot("model.mixste.mixste", "frames", "width", "mlp_hidden"),
            ("mixste", "tpc"): _hot(
                "model.mixste.tpc_mixste", "frames", "width", "r", "b", double=True
            ),
            ("motionbert", "hot"): _hot("model.motionbert.hot_motionbert", double=True),
            ("motionbert", "none"): _hot("model.motionbert.motionbert"),
            ("motionagformer", "hot"): _hot(
                "model.motionagformer.hot_motionagformer", sizes=_AG, double=True
            ),
            ("motionagformer", "none"): _hot(
                "model.motionagformer.motionagformer", "frames", sizes=_AG, double=True
            ),
            ("mhformer", "tpc"): _hot(
                "model.mhformer.tpc_mhformer", "frames", "width", "mlp_hidden", "r", "b",
                double=True,
            ),
            ("mhformer", "none"): _hot(
                "model.mhformer.mhformer", "frames", "width", "mlp_hidden"
            ),
        },
    ),
    "JinluZhang1126/MixSTE": Peer(
        marks=("common/model_cross.py",),
        models={("mixste", "none"): Model(module="common.model_cross", make=_mixste, free=_ALL)},
    ),
    "Walter0807/MotionBERT": Peer(
        marks=("lib/model/DSTformer.py",),
        models={
            ("motionbert", "none"): Model(
                module="lib.model.DSTformer", make=_motionbert, free=(*_ALL, "rep_width"),
                sizes={"width": 512, "mlp_hidden": 1024},  # configs/pose3d/MB_train_h36m.yaml
            )
        },
    ),
    "TaatiTeam/MotionAGFormer": Peer(
        marks=("model/MotionAGFormer.py",),
        models={
            ("motionagformer", "none"): Model(
                module="model.MotionAGFormer", make=_motionagformer,
                free=(*_ALL, "rep_width", "neighbours"), double=True,
            )
        },
    ),
    "Vegetebird/MHFormer": Peer(
        marks=("model/mhformer.py", "model/module/trans_hypothesis.py"),
        models={
            ("mhformer", "none"): _hot("model.mhformer", "frames", "width", "mlp_hidden", "depth")
        },
    ),
}  # fmt: skip


def recognise(folder: Path) -> str:
    """The name in PEERS of a checkout, by its files.

    Raises:
        UsageError: if there is no such folder, or it is no checkout of a known repository.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder at {folder}; give the checkout of a published repository")
    for name, peer in PEERS.items():
        if all((folder / mark).is_file() for mark in peer.marks):
            return name
    known = "; ".join(f"{name} has {', '.join(peer.marks)}" for name, peer in PEERS.items())
    raise UsageError(f"{folder} is no checkout of a known repository: {known}")


def choose(name: str, host: str | None, scheme: str | None) -> tuple[str, str]:
    """Host and scheme of a repository: the first that matches the arguments.

    Raises:
        UsageError: if it has no such model.
    """
    models = PEERS[name].models
    for found_host, found_scheme in models:
        if host in (None, found_host) and scheme in (None, found_scheme):
            return found_host, found_scheme
    have = ", ".join(f"--host {h} --scheme {s}" for h, s in models)
    raise UsageError(f"{name} has no host {host!r} with scheme {scheme!r}; it has {have}")


def check_sizes(name: str, model: Model, sizes: Sizes, published: Sizes) -> None:
    """Refuse sizes that are constants of the published code.

    Args:
        name: of the repository.
        model: its model.
        sizes: requested.
        published: as the code has them.

    Raises:
        UsageError: naming the first.
    """
    for size, value in sizes.items():
        if size not in model.free and value != published.get(size):
            can = ", ".join(model.free) or "none"
            raise UsageError(
                f"{name} has no {size} = {value}: in {model.module} it is the constant "
                f"{published.get(size)}; sizes to choose there: {can}"
            )


def revision(folder: Path) -> str:
    """A checkout's commit, with a mark if files were changed; outside git a digest of its code."""
    found = git.commit(folder, "--untracked-files=no")
    if found is None:
        return f"files-{folder_digest(folder)}"
    return found[0] + ("+changes" if found[1] else "")
