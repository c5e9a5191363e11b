"""The model card of a supernet: its training, from its file, and its measured errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from bench.records import store
from bench.records.errors import UsageError
from bench.records.units import millions, rounded
from reports.accuracy import MEAN_POSE, by_action, collect_accuracy, unlearned


def write_card(records_path: Path, header: Mapping[str, Any], path: Path) -> Path:
    """Write the card of the supernet that an accuracy session measured.

    Args:
        records_path: of that session.
        header: of the supernet's file, see ``h2ot_core.weights.read_card``, with its ``digest``
            and ``parameters`` added.
        path: of the markdown file; replaced.

    Returns:
        The path.

    Raises:
        UsageError: if the records are of another supernet or cannot be read.
    """
    records = store.read(records_path)
    session = collect_accuracy(records)
    if session is None or session.about["weights"] != header["digest"]:
        raise UsageError(
            f"{records_path} has no accuracy of the supernet {header['digest']}; run "
            f"`python -m bench accuracy` with it first"
        )
    sizes = header["arguments"]
    parts = [*([header["before"]] if "before" in header else []), header]
    recipe, feed = parts[0]["recipe"], parts[0]["feed"]
    about = session.about
    actions = by_action(session)
    curve = _curve(parts).rename(
        columns={
            "loss": "mean loss since",
            "mpjpe_mm": "no pruning (mm)",
            "mpjpe_hot_mm": "HoT (mm)",
            "mpjpe_h2ot_mm": "H2OT (mm)",
        }
    )
    means = [r for r in records if r.metric == MEAN_POSE and r.status == "ok"]
    mean_pose = (
        f" The training set's mean pose has an error of {rounded(fmean(means[-1].values), 1)} mm "
        "on the same views."
        if means
        else ""
    )
    held_out = header.get("validation_clips", ())
    text = f"""# Model card: MixSTE supernet

One set of weights for every schedule of MixSTE: any window up to {sizes["frames"]} frames, any r \
and b, any pruner and recoverer. It exists to compare schedules without full-size weights, and to \
try the tools; it is far too small and too little trained to lift well.

- Sizes: {", ".join(f"{name} {value}" for name, value in sizes.items())}; \
{millions(header["parameters"])} M parameters
- File: sha256 begins with {header["digest"]}; safetensors, with this training in its header
- Training data: {feed["data"]}; windows rotated, translated and mirrored at random, projected by \
the cameras of Human3.6M's subjects S1, S5, S6, S7 and S8, with a modelled detector \
({feed["detector"]})
- Split: the motion file's training subjects and the generator's training split. Training did not \
use the test split; the weights are those of the last step, not selected by any error
- Held out for the learning curve: {", ".join(held_out) or "none"}
- Budget: {" and ".join(f"{p['step']} steps" for p in parts)}, \
{_duration(sum(p["seconds"] for p in parts))}, fp32 on a CPU; {recipe["optimizer"]}, learning rate \
{recipe["rate"]:g} decayed along a cosine, weight decay {recipe["weight_decay"]:g}, MixSTE's loss; \
seed {recipe["seed"]}
- Command: `python -m bench train --trunk --motion FILE --out FOLDER`

{_ladder(feed["ladder"])}After that each step of about 486 frames samples the baseline, shorter \
windows, or one of the configurations of the paper's Tables 2, 4 and 5.{_second(parts)}

## Learning curve

{curve.to_markdown(index=False, floatfmt=".4g")}

Measured on {len(held_out)} held-out clips, from random viewpoints.

{unlearned(session)}

## Errors per action

{actions.to_markdown(index=False, disable_numparse=True)}

{about["description"]} {about["views"]} views of {about["frames"]} frames of the test split from \
{len(set(about["clips"]))} clips, cameras of S9, flip averaged, predicted root zeroed.{mean_pose} \
`python -m bench accuracy --motion FILE --report` repeats this and adds every other row.
"""
    path.write_text(text, encoding="utf-8")
    return path


def _ladder(rungs: Sequence[Sequence[float]]) -> str:
    """The short windows at the start of training."""
    return "".join(
        f"Up to {share:.0%} of the steps: {count:g} windows of {frames:g} frames a step, without "
        f"pruning. "
        for share, frames, count in rungs
    )


def _second(parts: Sequence[Mapping[str, Any]]) -> str:
    if len(parts) == 1:
        return ""
    rate = parts[1]["recipe"]["rate"]
    return (
        f" The second part trains all weights further, from a learning rate of {rate:g}: at its "
        "start a few channels carry sines of each frame's position from the embedding to TRA, "
        "whose tokens are the same sines and whose attention starts by comparing them; every other "
        "step samples a configuration with TRA."
    )


def _curve(parts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The learning curves of the parts, with steps counted from the start of the first."""
    lines, done = [], 0
    for part in parts:
        lines += [{**point, "step": int(done + point["step"])} for point in part["curve"]]
        done += part["step"]
    return pd.DataFrame(lines)


def _duration(seconds: float) -> str:
    return f"{rounded(seconds / 60, 0)} minutes"
