"""What the fast path does where PyTorch lacks a private name, or computes something else."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import h2ot_core
from h2ot_core import kernels
from h2ot_core.kernels import detect, inference, private, training

ROOT = Path(__file__).resolve().parents[2]
STATE = [f"torch.nn.Module().{name}" for name in private._STATE]
HOSTS: dict[str, dict[str, Any]] = {
    "motionagformer": {"prune": "tpa", "recover": "tra", "r": [9], "b": [1], "frames": 27},
    "mhformer": {"prune": "tpc", "r": [9], "b": [1], "frames": 36, "pipeline": "seq2frame"},
}

pytestmark = pytest.mark.skipif(
    not kernels.supported_types(), reason="this build of PyTorch has no oneDNN operators"
)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As at the start of a process: nothing has been found out yet."""
    for name, value in (("_status", None), ("_training", None), ("_warned", False)):
        monkeypatch.setattr(detect, name, value)
    yield
    importlib.reload(private)


def _without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look private names up anew in a PyTorch that lacks one, which has it again afterwards."""
    *path, last = name.split(".")[1:]
    with monkeypatch.context() as patch:
        if name in STATE:
            make = nn.Module.__init__

            def lacking(self: nn.Module, *args: Any, **kwargs: Any) -> None:
                make(self, *args, **kwargs)
                vars(self).pop(last)

            patch.setattr(nn.Module, "__init__", lacking)
        elif path == ["ops", "mkldnn"]:
            others = {o.rpartition(".")[2] for o in private.NAMES if ".mkldnn." in o} - {last}
            known = {other: getattr(torch.ops.mkldnn, other) for other in others}
            patch.setattr(torch.ops, "mkldnn", types.SimpleNamespace(**known))
        elif path == ["ops", "aten"]:
            others = {"native_layer_norm_backward", "gelu_backward"} - {last}
            known = {other: getattr(torch.ops.aten, other) for other in others}
            patch.setattr(torch.ops, "aten", types.SimpleNamespace(**known))
        else:
            owner: Any = torch
            for part in path:
                owner = getattr(owner, part)
            patch.delattr(owner, last)
        importlib.reload(private)


@pytest.fixture(scope="module")
def built() -> Callable[[str], tuple[h2ot_core.Hourglass, Tensor]]:
    def make(host: str) -> tuple[h2ot_core.Hourglass, Tensor]:
        torch.manual_seed(0)
        model = h2ot_core.build(host, width=32, depth=2, heads=2, **HOSTS[host]).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
        return model, torch.randn(2, model.schedule.frames, 17, model.host.channels)

    return make


def _results(model: h2ot_core.Hourglass, x: Tensor) -> Tensor:
    """Poses in plain inference and with gradients, and the gradients, in shares of the largest."""
    model.zero_grad()
    with torch.inference_mode():
        parts = [model(x).clone()]
    y = model(x)
    y.square().mean().backward()
    parts += [y.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
    return torch.cat([part.flatten() / part.abs().max() for part in parts])


@pytest.mark.parametrize("name", [*private.NAMES, *STATE])
def test_without_a_private_name_results_are_the_same_with_one_warning(
    name: str,
    built: Callable[[str], tuple[h2ot_core.Hourglass, Tensor]],
    unchecked: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = [built(host) for host in HOSTS]
    wanted = [_results(*one) for one in models]
    for state in ("_status", "_training"):
        monkeypatch.setattr(detect, state, None)
    _without(name, monkeypatch)
    assert list(private.MISSING) == [name]
    with pytest.warns(RuntimeWarning, match=re.escape(f"it lacks {name}")) as caught:
        found = [_results(*one) for one in models * 2]
    assert len(caught) == 1
    for one, other in zip(found, wanted * 2, strict=True):
        # Gradients are sums over many tokens, so some are off by the last digits of a float32 too.
        torch.testing.assert_close(one, other, rtol=2e-6, atol=1e-6)


def test_the_list_of_private_names_is_whole() -> None:
    """No other file of the library has one: an attribute with a leading underscore of torch."""
    for path in sorted((ROOT / "h2ot_core").rglob("*.py")):
        if path.name == "private.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                name = ast.unparse(node)
                assert not (name.startswith("torch.") and re.search(r"\._(?!_)", name)), (
                    f"{path.name}: {name}"
                )
                assert node.attr not in private._STATE, f"{path.name}: {name}"
                assert name not in private.NAMES, f"{path.name}: {name}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
                assert "._" not in f"{node.module}."


def _off(value: Tensor) -> Tensor:
    return value * 1.01


OPERATORS = {
    "linear_pointwise": "a linear layer",
    "reorder_linear_weight": "a packed linear layer",
    "convolution_pointwise": "a product per group",
    "layer_norm": "a layer norm",
    "native_layer_norm_backward": "the gradient of a norm and a linear layer",
    "gelu_backward": "the gradient of GELU and a linear layer",
}


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_that_raises_or_is_wrong_is_not_used(
    operator: str,
    raises: bool,
    built: Callable[[str], tuple[h2ot_core.Hourglass, Tensor]],
    unchecked: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = built("motionagformer")
    with kernels.plain():
        wanted = _results(model, x)
    real = getattr(private, operator)

    def wrong(*arguments: Any) -> Any:
        if raises:
            raise RuntimeError("another signature\nand details")
        if operator == "reorder_linear_weight":  # what it returns can only be multiplied with
            return real(_off(arguments[0]), *arguments[1:])
        found = real(*arguments)
        return tuple(map(_off, found)) if isinstance(found, tuple) else _off(found)

    monkeypatch.setattr(private, operator, wrong)
    how = "raises RuntimeError: another signature" if raises else r"differs by \d\.\de-0[23]"
    with pytest.warns(RuntimeWarning, match=f"{OPERATORS[operator]} {how}") as caught:
        found = _results(model, x)
    assert len(caught) == 1
    assert "and details" not in str(caught[0].message)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_the_check_is_made_once_and_by_threads_together(
    unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    examine = detect._examine

    def counted() -> detect.Status:
        made.append(1)
        return examine()

    monkeypatch.setattr(detect, "_examine", counted)
    found: list[detect.Status] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(detect.status())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(found)) == 1
    assert found[0].inference


def test_the_check_leaves_everything_as_it_was(unchecked: None) -> None:
    """First reached within hooks, a counter, other default types and a random generator."""
    seen: list[nn.Module] = []
    before = torch.get_rng_state()
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(m))
    packed: list[Tensor] = []

    def pack(value: Tensor) -> Tensor:
        packed.append(value)
        return value

    torch.set_default_dtype(torch.float64)
    try:
        with (
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
            torch.device("meta"),
            torch.inference_mode(),
        ):
            assert detect.status().types
            assert detect.trains()
            assert torch.is_inference_mode_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        handle.remove()
    assert counter.get_total_flops() == 0
    assert not seen
    assert not packed
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_who_watches_first_is_given_plain_layers_and_the_check_comes_later(
    unchecked: None, built: Callable[[str], tuple[h2ot_core.Hourglass, Tensor]]
) -> None:
    model, x = built("mhformer")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() > 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(x)
    assert detect._status is None
    with torch.no_grad():
        model(x)
    assert detect._status is not None


PROGRAM = """
import warnings
warnings.simplefilter("error")
import torch, h2ot_core
from h2ot_core import kernels
from h2ot_core.kernels import detect
try:
    model = h2ot_core.build("mixste", frames=9, width=16, depth=1, heads=2, scheme="none").eval()
    with torch.inference_mode():
        model(torch.zeros(1, 9, 17, 2))
    model(torch.zeros(1, 9, 17, 2))
    print(kernels.supported_types() != (), detect.trains(), kernels.status().why)
    h2ot_core.Packed(model)
except h2ot_core.ConfigError as error:
    print("ConfigError:", error)
"""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "True True \n"),
        ("plain", "False False H2OT_KERNELS=plain\nConfigError: H2OT_KERNELS=plain; call the "),
        ("slow", "ConfigError: the environment variable H2OT_KERNELS must be 'fast' (as without "
         "it) or 'plain' (PyTorch's own layers alone), got 'slow'.\n"),
    ],
)  # fmt: skip
def test_the_environment_chooses(value: str | None, said: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "H2OT_KERNELS"}
    environment |= {} if value is None else {"H2OT_KERNELS": value}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(said)


@pytest.mark.parametrize(("value", "fast"), [("", True), ("fast", True), ("plain", False)])
def test_values_of_the_variable(value: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "_requested", value)
    assert detect.requested() == fast


def test_former_names_give_what_they_gave() -> None:
    from h2ot_core import fused, lean

    assert kernels.supported_types() == fused.TYPES
    assert fused.Packs is kernels.PackedWeights
    assert lean.linear is training.linear
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    assert fused.untouched(layer, nn.GELU())
    assert not fused.untouched(layer, nn.SiLU())
    with torch.inference_mode():
        assert fused.ready(x)
        assert torch.equal(fused.layer(x, layer), inference.layer(x, layer))
        with fused.plain():
            assert not fused.ready(x)
    layer.register_forward_hook(lambda *_: None)
    assert not fused.untouched(layer)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        fused.absent  # noqa: B018


def test_no_warning_where_all_is_well(
    unchecked: None, built: Callable[[str], tuple[h2ot_core.Hourglass, Tensor]]
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _results(*built("mhformer"))
    assert not caught
    assert not detect.status().why
