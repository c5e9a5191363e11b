"""Energy per output frame beyond idling, from counters of the hardware, through Zeus.

By ``python -m bench energy``, not in every sweep: it needs seconds per case and the extra
``energy`` (the package ``zeus`` of ML.ENERGY). On a GPU the counter is NVML's of the device
(Volta or newer), updated every 20 to 100 ms; on a CPU it is RAPL's of all packages, which needs the
right to read it. A window with few updates of its counter says little: the energy of up to one
update is missed at either end, so that with ten of them 10% may be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.data.windows import batch
from bench.metrics.base import Metric, NotApplicable, Reading
from bench.models.build import measured_model, require_device
from bench.models.context import Context
from bench.records.case import Case
from bench.records.environment import version
from bench.timing import clock

MIN_UPDATES = 10
WINDOWS = 3  # each idle, then at work
IDLE_S = 2.0
WORK_S = 5.0
LONGER = 6  # times as long a window may become, to see enough updates between long passes
_WARMUP = 3
_POLL_S = 5e-3


def measure(case: Case, context: Context) -> list[Reading]:
    """Joules per output frame, idling subtracted; one value per window.

    Every window of work follows one in which the process sleeps, whose power is subtracted. What
    else the machine does counts as work if it begins with it, so that a busy machine measures
    nothing on a CPU.

    Raises:
        NotApplicable: without Zeus, a counter, or enough updates of it within a window; or if
            working needed no more than idling.
    """
    require_device(case)
    counter = Counter(open_monitor(case.device), case.device)
    run = _work(case, context)
    for _ in range(_WARMUP):
        run()
    values, idle_w, updates, passes = [], [], [], []
    for _ in range(WINDOWS):
        idle = counter.window("idle", _sleep, IDLE_S)
        work = counter.window("work", run, WORK_S)
        beyond = work.joules - idle.watts * work.seconds
        if beyond <= 0:
            raise NotApplicable(
                f"working took {work.watts:.3g} W and idling {idle.watts:.3g} W, so that "
                f"the model's energy is not measurable; stop what else runs on this machine"
            )
        frames = work.runs * case.batch * (case.frames if case.pipeline == "seq2seq" else 1)
        values.append(beyond / frames)
        idle_w.append(idle.watts)
        updates.append(min(idle.updates, work.updates))
        passes.append(work.runs)
    protocol = {
        "counter": counter.name,
        "zeus": version("zeus"),
        "idle_w": idle_w,
        "updates": updates,
        "passes": passes,
        "idle_s": IDLE_S,
        "work_s": WORK_S,
        "warmup": _WARMUP,
        "description": context.motion.description,
    }
    reading = Reading(
        metric="energy_per_frame_j", unit="J", values=tuple(values), protocol=protocol
    )
    return [reading]


ENERGY = Metric("energy", ("energy_per_frame_j",), measure)


def open_monitor(device: str) -> Any:
    """A monitor of the device's energy alone.

    Raises:
        NotApplicable: if Zeus is not installed.
    """
    try:
        from zeus.monitor import ZeusMonitor
    except ImportError:
        raise NotApplicable("Zeus is not installed: pip install -e '.[energy]'") from None
    if device == "cuda":
        return ZeusMonitor(gpu_indices=[torch.cuda.current_device()], cpu_indices=[])
    return ZeusMonitor(gpu_indices=[])


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        seconds, joules: of the window.
        updates: how often the counter was seen to change.
        runs: how often the work was done.
    """

    seconds: float
    joules: float
    updates: int
    runs: int

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds


class Counter:
    """The energy counter of a device, as a Zeus monitor reads it.

    Args:
        monitor: a ``zeus.monitor.ZeusMonitor`` of the device alone.
        device: "cuda" or "cpu".

    Raises:
        NotApplicable: if the device has no counter that can be read.
    """

    def __init__(self, monitor: Any, device: str) -> None:
        self._monitor = monitor
        self._cuda = device == "cuda"
        self._indices = monitor.gpu_indices if self._cuda else monitor.cpu_indices
        if not self._indices:
            where = "a GPU that NVML knows" if self._cuda else "RAPL, readable by this user"
            raise NotApplicable(f"no energy counter here; it needs {where}")
        self._counts = monitor.gpus if self._cuda else monitor.cpus
        if self._cuda and not all(
            map(self._counts.supportsGetTotalEnergyConsumption, self._indices)
        ):
            raise NotApplicable("this GPU has no energy counter; it needs Volta or newer")
        self.name = "NVML, GPU" if self._cuda else "RAPL, CPU packages"

    def window(self, name: str, work: Callable[[], object], at_least_s: float) -> Window:
        """Repeat some work for a while and measure its energy.

        Updates are looked for after every repetition, and the window goes on for up to six times
        as long while too few were seen.

        Raises:
            NotApplicable: if the counter was updated fewer than ten times.
        """
        self._monitor.begin_window(name)
        begin, before = clock.now(), self._read()
        updates = runs = 0
        while (spent := clock.now() - begin) < at_least_s or (
            updates < MIN_UPDATES and spent < LONGER * at_least_s
        ):
            work()
            runs += 1
            now = self._read()
            updates += now != before
            before = now
        result = self._monitor.end_window(name)
        energy = result.gpu_energy if self._cuda else result.cpu_energy or {}
        window = Window(result.time, sum(energy.values()), updates, runs)
        if updates < MIN_UPDATES:
            raise NotApplicable(
                f"the energy counter was updated {updates} times in a window of "
                f"{window.seconds:.3g} s ({name}); at least {MIN_UPDATES} are needed"
            )
        return window

    def _read(self) -> tuple[float, ...]:
        """Millijoules since some moment, per counter."""
        readings = (self._counts.getTotalEnergyConsumption(i) for i in self._indices)
        return tuple(r if self._cuda else r.cpu_mj for r in readings)


def _sleep() -> None:
    clock.wait_until(clock.now() + _POLL_S)


def _work(case: Case, context: Context) -> Callable[[], Tensor]:
    """One forward pass on real motion, done when it returns."""
    model = measured_model(case)
    windows = context.motion.windows(case.frames, limit=case.batch)
    picked = [windows[i % len(windows)] for i in range(case.batch)]
    x = torch.from_numpy(batch(picked, model.host.channels))
    x = x.to(case.device, getattr(torch, case.dtype))

    def run() -> Tensor:
        with torch.inference_mode():
            poses = model(x)
        clock.synchronise(x.device)
        return poses

    return run
