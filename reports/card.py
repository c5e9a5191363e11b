"""The model card of a trunk: what its file says of itself, and what it was found to do."""

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
    """Write the card of a trunk that an accuracy session was taken with.

    Args:
        records_path: of that session.
        header: of the trunk's file, see ``h2ot_core.weights.read_card``, with its ``digest`` and
            ``parameters`` added.
        path: of the markdown file; replaced.

    Returns:
        The path.

    Raises:
        UsageError: if the records are of another trunk or cannot be read.
    """
    records = store.read(records_path)
    found = collect_accuracy(records)
    if found is None or found.about["weights"] != header["digest"]:
        raise UsageError(
            f"{records_path} holds no accuracy of the trunk {header['digest']}; run "
            f"`python -m bench accuracy` with it first"
        )
    sizes = header["arguments"]
    parts = [*([header["before"]] if "before" in header else []), header]
    recipe, feed = parts[0]["recipe"], parts[0]["feed"]
    about = found.about
    actions = by_action(found)
    curve = _curve(parts).rename(
        columns={
            "loss": "mean loss since",
            "mpjpe_mm": "no pruning (mm)",
            "mpjpe_hot_mm": "HoT (mm)",
            "mpjpe_h2ot_mm": "H2OT (mm)",
        }
    )
    nothing = [r for r in records if r.metric == MEAN_POSE and r.status == "ok"]
    beside = (
        f" The training set's mean pose has an error of {rounded(fmean(nothing[-1].values), 1)} mm "
        "on the same views."
        if nothing
        else ""
    )
    aside = ", ".join(header.get("validation_clips", ())) or "none"
    text = f"""# Model card: elastic MixSTE trunk

One set of weights for every schedule of MixSTE: any window up to {sizes["frames"]} frames, any r \
and b, any pruner and recoverer. It exists to compare schedules where no full-size weights are at \
hand, and to try the tools; it is far too small and too little trained to lift well.

- Sizes: {", ".join(f"{name} {value}" for name, value in sizes.items())}; \
{millions(header["parameters"])} M parameters
- File: sha256 begins with {header["digest"]}; safetensors, with this training in its header
- Learned from: {feed["data"]}; windows turned, moved and mirrored at random, seen by the cameras \
of Human3.6M's subjects S1, S5, S6, S7 and S8, with a modelled detector ({feed["detector"]})
- Split: the motion file's training subjects and the generator's training split. The test split \
was not looked at in training; the weights are those of the last step, not chosen by any error
- Set aside to watch the curve: {aside}
- Budget: {" and ".join(f"{p['step']} steps" for p in parts)}, \
{_duration(sum(p["seconds"] for p in parts))}, fp32 on a CPU; {recipe["optimizer"]}, rate \
{recipe["rate"]:g} falling along a cosine, weight decay {recipe["weight_decay"]:g}, MixSTE's loss; \
seed {recipe["seed"]}
- Command: `python -m bench train --trunk --motion FILE --out FOLDER`

{_ladder(feed["ladder"])}After that each step of about 486 frames draws the baseline, shorter \
windows, or one of the configurations of the paper's Tables 2, 4 and 5.{_second(parts)}

## Learning curve

{curve.to_markdown(index=False, floatfmt=".4g")}

Measured on {len(header.get("validation_clips", ()))} clips set aside, from drawn viewpoints.

{unlearned(found)}

## Errors per action

{actions.to_markdown(index=False, disable_numparse=True)}

{about["description"]} {about["views"]} views of {about["frames"]} frames of the test split from \
{len(set(about["clips"]))} clips, cameras of S9, flip averaged, predicted root zeroed.{beside} \
`python -m bench accuracy --motion FILE --report` repeats this and adds every other row.
"""
    path.write_text(text, encoding="utf-8")
    return path


def _ladder(rungs: Sequence[Sequence[float]]) -> str:
    """The short windows that training begins with."""
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
        " In the second part all weights are trained on, from a rate of "
        f"{rate:g}: a few channels first carry sines of each frame's place from the "
        "embedding to TRA, whose tokens are the same sines and whose attention begins by "
        "comparing them; every other step draws a configuration with TRA."
    )


def _curve(parts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The learning curves of the parts, their steps counted on."""
    lines, done = [], 0
    for part in parts:
        lines += [{**point, "step": int(done + point["step"])} for point in part["curve"]]
        done += part["step"]
    return pd.DataFrame(lines)


def _duration(seconds: float) -> str:
    return f"{rounded(seconds / 60, 0)} minutes"
