"""In a fresh process: one side of the comparison.

A checkout's modules have names such as ``model`` and ``common``, which must not meet ours.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import h2ot_core
from bench.models import plugins
from bench.models.torch_private import fake_tensors
from bench.records.environment import version
from bench.scenarios.peer.adapters import PEERS, Model
from bench.scenarios.runtimes import RUNTIMES
from bench.scenarios.runtimes.base import NOT_FINITE, Unavailable
from bench.timing import clock
from bench.timing.clock import trial
from bench.workers.process import serve
from h2ot_core.losses import loss_of

_PACKAGES = ("torch", "einops", "timm", "local-attention")
_WARMUP = {"cpu": 1, "cuda": 5}


def _failure(error: Exception) -> dict[str, Any]:
    """Status and reason of whatever a checkout raises, the reason as one line."""
    return {"status": "failed", "reason": _reason(error)}


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
        return (
            f"it needs the package {name!r}, which is not installed here; "
            "pip install -e '.[peer]' in the folder of H2OT, or see that the checkout is complete"
        )
    if "torchvision::" in str(error):  # timm imports it, and it is compiled for one torch
        return (
            f"torchvision, which timm imports, is not of the release of torch {torch.__version__}"
        )
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}" if lines else type(error).__name__


class PeerModel:
    """A model with weights and input, to be checked and timed; :meth:`build` comes first."""

    def build(self, setup: dict[str, Any]) -> dict[str, Any]:
        """Build the model; the versions of the packages that this process imports."""
        if setup["threads"]:
            torch.set_num_threads(setup["threads"])
        # Convolutions would otherwise round to TF32 on a GPU, and outputs could not be compared.
        torch.backends.cudnn.allow_tf32 = False
        self.device = torch.device(setup["device"])
        self.dtype: torch.dtype = getattr(torch, setup["dtype"])
        inputs = load_file(setup["inputs"])
        self.noise = inputs.pop("noise", None)
        self.inputs = [inputs[name] for name in sorted(inputs)]
        self.setup = setup
        self.ours = setup["side"] == "ours"
        if self.ours:  # a checkout's modules are not to meet those of plug-ins
            plugins.load_all()
        self.model = self._built()
        self._timed: Callable[[Tensor], Any] | None = None
        self._optimiser: torch.optim.Optimizer | None = None
        versions = {name: version(name) for name in _PACKAGES if version(name) != "absent"}
        return {"versions": {"python": platform.python_version(), **versions}}

    def _built(self) -> nn.Module:
        tensors = load_file(self.setup["weights"])
        model = (_ours if self.ours else _theirs)(self.setup, tensors)
        return model.eval().to(self.device)

    def check(self, out: str, dtype: str, kind: str = "motion") -> dict[str, Any]:
        """Write the output of the first batch to a file, the frames that are published of it.

        The ``kind`` of input is "motion", "nudged", where the last bit of most of it is changed, or
        "uniform" noise in [-1, 1) of the same shape.
        """
        x, generator = self.inputs[0], torch.Generator().manual_seed(0)
        if kind == "nudged":
            steps = torch.randint(-1, 2, x.shape, generator=generator)
            x = x * (1 + torch.finfo(x.dtype).eps * steps)
        elif kind == "uniform":
            x = torch.rand(x.shape, generator=generator) * 2 - 1
        x = x.to(self.device, getattr(torch, dtype))
        noise = self.noise.to(x.device, x.dtype) if self.noise is not None else None
        with _default_dtype(x.dtype), torch.inference_mode():
            model = self.model if dtype == "float32" else self._built().to(x.dtype)
            if self.ours:
                assert isinstance(model, h2ot_core.Hourglass)
                result = model.run(x, noise=noise)
                # Published models of the centre frame return all kept ones.
                y = result.kept if model.config.pipeline == "seq2frame" else result.poses
            else:
                with _replaced_rand(noise):
                    y = model(x)
                y = y[0] if isinstance(y, tuple) else y
        save_file({"y": y.double().cpu().contiguous().clone()}, out)
        return {}

    def time(self, turn: int) -> dict[str, Any]:
        """Seconds of one or several forward passes on the batch of a turn."""
        x = self.inputs[turn % len(self.inputs)].to(self.device, self.dtype)
        call = self._call(x)
        with torch.inference_mode():
            return {"seconds": trial(lambda: call(x), x.device)}

    def _call(self, example: Tensor) -> Callable[[Tensor], Any]:
        """The model to be timed, warmed up."""
        if self._timed is None:
            name = self.setup["runtime"]
            if self.ours and name != "eager":
                runtime = RUNTIMES[name]
                reason = runtime.available(example.device.type)
                if reason:
                    raise Unavailable(f"runtime {name}: {reason}")
                assert isinstance(self.model, h2ot_core.Hourglass)
                self._timed = runtime.prepare(self.model, example)
            else:
                self._timed = self.model.to(self.dtype)
            with torch.inference_mode():
                for _ in range(_WARMUP[self.device.type]):
                    self._timed(example)
        return self._timed

    def moved(self) -> dict[str, Any]:
        """How much the runtime changes the first output, in shares of its largest element."""
        x = self.inputs[0].to(self.device)
        call = self._call(x)
        with torch.inference_mode():
            eager = self.model(x).double()
            shares = (call(x).double() - eager).abs() / eager.abs().max()
        if not bool(shares.isfinite().all()):
            raise Unavailable(f"runtime {self.setup['runtime']}: {NOT_FINITE}")
        return {"largest": float(shares.max()), "mean": float(shares.mean())}

    def memory(self) -> dict[str, Any]:
        """Estimated peak bytes of a training step on the first batch, see ``training_memory``."""
        from bench.metrics import training_memory

        model = self._built().train()
        x, target = self._training_batch()
        mode = fake_tensors(allow_non_fake_inputs=True)  # some keep constants as attributes
        for module in model.modules():
            for name, value in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(mode.from_tensor(value.detach())))
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, mode.from_tensor(buffer))
        x, target = mode.from_tensor(x), mode.from_tensor(target)
        with mode:
            return {"bytes": training_memory.of_step(_Trained(model), x, target, self._loss())}

    def step(self, turn: int) -> dict[str, Any]:
        """Seconds of one training step: forward, loss, backward, AdamW; on a GPU its bytes too."""
        x, target = self._training_batch()
        model = self.model.train()
        if self._optimiser is None:
            self._optimiser = torch.optim.AdamW(model.parameters(), lr=4e-5, weight_decay=0.1)
            self._step(_Trained(model), x, target)  # warms up, and makes the optimiser's state
        on_gpu = x.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds = clock.time_call(lambda: self._step(_Trained(model), x, target), x.device)
        allocated = {"allocated": torch.cuda.max_memory_allocated()} if on_gpu else {}
        return {"seconds": [seconds], **allocated}

    def _step(self, model: nn.Module, x: Tensor, target: Tensor) -> None:
        assert self._optimiser is not None
        self._loss()(model(x), target).backward()
        self._optimiser.step()
        self._optimiser.zero_grad()

    def _loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        return loss_of(self.setup["host"])

    def _training_batch(self) -> tuple[Tensor, Tensor]:
        x = self.inputs[0].to(self.device)
        return x, torch.zeros(len(x), self.setup["learned"], x.shape[2], 3, device=x.device)


class _Trained(nn.Module):
    """A model whose output is trained on: poses of all frames, for seq2frame of the kept ones."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, J, C_in) to (B, N, J, 3)."""
        if isinstance(self.model, h2ot_core.Hourglass):
            output = self.model.run(x)
            return output.kept if self.model.config.pipeline == "seq2frame" else output.poses
        y = self.model(x)
        return y[0] if isinstance(y, tuple) else y


def _ours(setup: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    model = h2ot_core.load_published(h2ot_core.build(**setup["arguments"]), tensors)
    model.check_finite = setup["device"] == "cpu"  # as of `measured_model`
    return model


def _theirs(setup: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    entry: Model = PEERS[setup["peer"]].models[setup["host"], setup["scheme"]]
    if setup["folder"] not in sys.path:
        sys.path.insert(0, setup["folder"])
    module = importlib.import_module(entry.module)
    imported = Path(module.__file__ or "").resolve()
    if not imported.is_relative_to(Path(setup["folder"]).resolve()):
        raise ImportError(f"{entry.module} was found in {imported}, not in the checkout")
    model = entry.make(module, setup["sizes"])
    model.load_state_dict(tensors)
    return model


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make ``float()`` and new tensors float64 for a while, for code that names float32."""
    if dtype == torch.float32:
        yield
        return
    as_float = Tensor.float
    torch.set_default_dtype(dtype)
    Tensor.float = lambda self: self.to(dtype)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Tensor.float = as_float  # type: ignore[method-assign]
        torch.set_default_dtype(torch.float32)


@contextmanager
def _replaced_rand(noise: Tensor | None) -> Iterator[None]:
    """Let ``torch.rand``, with which the published TPC breaks ties, return ``noise``."""
    if noise is None:
        yield
        return
    drawn = torch.rand

    def rand(*size: Any, **options: Any) -> Tensor:
        shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else tuple(size)
        if shape != tuple(noise.shape):
            raise RuntimeError(
                f"noise of shape {shape} was requested, there is {tuple(noise.shape)}"
            )
        return noise.to(options.get("device"), options.get("dtype"))

    replaced: Callable[..., Tensor] = rand
    torch.rand = replaced  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.rand = drawn


if __name__ == "__main__":
    peer = PeerModel()
    serve(
        {
            "build": peer.build, "check": peer.check, "time": peer.time, "moved": peer.moved,
            "memory": peer.memory, "step": peer.step,
        },
        failure=_failure,
    )  # fmt: skip
