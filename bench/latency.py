"""Latency of many cases, taken in turn, so that a drifting machine drifts for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import h2ot_core
from bench import timing
from bench.case import Case
from bench.data.motion import MotionError
from bench.data.windows import batch
from bench.errors import UsageError
from bench.metrics.base import Context, excuse
from bench.record import Record
from bench.store import Store

READINGS = ("latency_s", "prune_s", "recover_s")
_INPUTS = 8  # different clips, one per round, the same for every case
# A visit takes one sample of a long forward pass, and several of a short one.
_VISIT_S = 0.2
_VISIT_SAMPLES = 20
_WARMUP = {"cpu": 1, "cuda": 5}


def group_name(cases: Sequence[Case]) -> str:
    """Names a set of cases timed together: their ratios mean something within it."""
    text = "\n".join(sorted(case.key for case in cases))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def missing(cases: Sequence[Case], rounds: int, store: Store) -> list[tuple[int, Case]]:
    """Visits still to be made, in measuring order: forwards and backwards by turns."""
    group = group_name(cases)
    given_up = {r.case for r in store.records if r.group == group and r.status != "ok"}
    return [
        (part, case)
        for part in range(rounds)
        for case in (cases if part % 2 == 0 else reversed(cases))
        if case not in given_up
        and any((case, metric, group, part) not in store for metric in READINGS)
    ]


def measure(
    cases: Sequence[Case],
    rounds: int,
    store: Store,
    context: Context,
    stamp: Mapping[str, Any],
    tick: Callable[[str], None],
) -> None:
    """Take one visit per case and round, storing each as it is made.

    Args:
        cases: timed together; the first is the baseline the others are compared with.
        rounds: visits per case.
        store: holds what was measured before and takes what is measured now.
        context: gives the input motion.
        stamp: session and environment, for every record.
        tick: called after each visit with the case's label.

    Raises:
        UsageError: if the device is not there.
    """
    todo = missing(cases, rounds, store)
    if not todo:
        return
    group = group_name(cases)
    models = _Models(cases)
    inputs = _Inputs(context)
    given_up: set[Case] = set()
    for part, case in todo:
        if case in given_up:
            tick(case.label)
            continue
        try:
            model = models.ready(case, lambda case=case: inputs.take(case, 0))  # type: ignore[misc]
            x = inputs.take(case, part)
            with torch.inference_mode():
                samples = timing.repeat(
                    lambda model=model, x=x: timing.time_forward(model, x),  # type: ignore[misc]
                    at_least_s=_VISIT_S,
                    at_most=_VISIT_SAMPLES,
                )
        except (UsageError, MotionError):  # the input's fault, so no case can be timed
            raise
        except Exception as error:  # whatever it is, the others go on and the row says why
            models.drop(case)
            given_up.add(case)
            store.append(
                Record(
                    case=case, metric=metric, unit="s", values=(), group=group, part=part,
                    **excuse(error), **stamp,
                )
                for metric in READINGS
            )  # fmt: skip
        else:
            protocol = {
                "warmup": _WARMUP[case.device],
                "interleaved": len(cases),
                "clock": "wall, synchronised",
                "float32_matmul": torch.get_float32_matmul_precision(),
                "mode": "inference_mode, eager",
                "description": context.motion.description,
            }
            series = {
                "latency_s": [s.total_s for s in samples],
                "prune_s": [s.prune_s for s in samples],
                "recover_s": [s.recover_s for s in samples],
            }
            store.append(
                Record(
                    case=case, metric=metric, unit="s", values=tuple(values), group=group,
                    part=part, protocol=protocol, **stamp,
                )
                for metric, values in series.items()
            )  # fmt: skip
        tick(case.label)


class _Models:
    """Models of a group, built when first needed, sharing weights so that many fit in memory."""

    def __init__(self, cases: Sequence[Case]) -> None:
        devices = {(case.device, case.threads) for case in cases}
        if len(devices) != 1:
            raise UsageError(f"cases timed together must share device and threads, got {devices}")
        self.device, threads = devices.pop()
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("no CUDA device here; use --device cpu")
        if threads:
            torch.set_num_threads(threads)
        self._models: dict[Case, h2ot_core.Hourglass] = {}
        self._weights: dict[tuple[str, str, str, torch.Size], torch.nn.Parameter] = {}

    def ready(self, case: Case, warm: Callable[[], Tensor]) -> h2ot_core.Hourglass:
        """The case's model, warmed up."""
        if case not in self._models:
            model = h2ot_core.build(**case.build_arguments()).eval()
            model = model.to(self.device, getattr(torch, case.dtype))
            self._share(model, case)
            # The input was checked when it was made; searching it again would wait for a GPU.
            model.check_finite = self.device == "cpu"
            x = warm()
            with torch.inference_mode():
                for _ in range(_WARMUP[self.device]):
                    model(x)
            self._models[case] = model
        return self._models[case]

    def drop(self, case: Case) -> None:
        """Free what a failed case holds."""
        self._models.pop(case, None)
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _share(self, model: h2ot_core.Hourglass, case: Case) -> None:
        for path, module in model.named_modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                key = (case.host, case.dtype, f"{path}.{name}", parameter.shape)
                shared = self._weights.setdefault(key, parameter)
                module.register_parameter(name, shared)


class _Inputs:
    """Batches of real motion, the same clips for every case."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._batches: dict[tuple[Any, ...], Tensor] = {}

    def take(self, case: Case, part: int) -> Tensor:
        """The case's input in one round; (batch, F, J, C_in)."""
        turn = part % _INPUTS
        key = (case.host, case.frames, case.batch, case.device, case.dtype, turn)
        if key not in self._batches:
            count = case.batch * _INPUTS
            windows = self._context.motion.windows(case.frames, limit=count)
            picked = [windows[(turn * case.batch + i) % len(windows)] for i in range(case.batch)]
            channels = h2ot_core.HOSTS[case.host].channels
            x = torch.from_numpy(batch(picked, channels))
            if not bool(torch.isfinite(x).all()):
                raise UsageError(f"{self._context.motion.name} holds poses that are not finite")
            self._batches[key] = x.to(case.device, getattr(torch, case.dtype))
        return self._batches[key]
