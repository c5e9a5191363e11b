"""What the fast path can do here, found out once per process, when it is first wanted.

Its numbers are compared with those of plain layers on tiny inputs. Where a private name is missing,
an operator raises or a number differs, layers run as PyTorch runs them, and one warning says why.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as functional
from torch import Tensor

from h2ot_core.errors import ConfigError
from h2ot_core.kernels import private

T = TypeVar("T")

VARIABLE = "H2OT_KERNELS"
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.05}  # shares of the largest value


class Status(NamedTuple):
    """What the fast path can do.

    Attributes:
        inference: whether layers may be done without calling them, where nothing records gradients.
        types: of values on a CPU, for which oneDNN is used directly.
        why: what cannot be done, and why; "" where all can.
    """

    inference: bool
    types: tuple[torch.dtype, ...] = ()
    why: str = ""


_requested = os.environ.get(VARIABLE, "")
_status: Status | None = None
_training: bool | None = None
_warned = False
_lock = threading.RLock()


def requested() -> bool:
    """Whether the environment allows the fast path.

    Raises:
        ConfigError: if ``H2OT_KERNELS`` has a value other than "fast", "plain" or "".
    """
    if _requested not in ("", "fast", "plain"):
        raise ConfigError(
            f"the environment variable {VARIABLE} must be 'fast' (as without it) or 'plain' "
            f"(PyTorch's own layers alone), got {_requested!r}."
        )
    return _requested != "plain"


def status() -> Status:
    """What can be done where nothing records gradients; found out by the first call.

    Raises:
        ConfigError: as :func:`requested`.
    """
    global _status
    if _status is not None:
        return _status
    with _lock:
        if _status is None:
            if requested():
                _status = _apart(_examine, lambda why: Status(False, why=why))
                _warn(_status.why)
            else:
                _status = Status(False, why=f"{VARIABLE}=plain")
        return _status


def trains() -> bool:
    """Whether layers may be done without calling them where gradients are recorded.

    Found out by the first call; raises as :func:`status`.
    """
    global _training
    if _training is not None:
        return _training
    found = status()  # before, since gradients go through oneDNN too
    with _lock:
        if _training is None:
            known = found.inference and private.TRAINING not in private.MISSING.values()
            wrong = _apart(_wrong_gradients, lambda why: [why]) if known else []
            _training = known and not wrong
            _warn("; ".join(wrong))
        return _training


def _warn(why: str) -> None:
    global _warned
    if why and not _warned:
        _warned = True
        warnings.warn(
            f"h2ot_core runs layers as PyTorch runs them where its faster way cannot be trusted "
            f"with torch {torch.__version__}: {why}. Results are the same. {VARIABLE}=plain keeps "
            f"to PyTorch's layers without this warning.",
            RuntimeWarning,
            stacklevel=3,
        )


def _apart(examine: Callable[[], T], otherwise: Callable[[str], T]) -> T:
    """Examine in a thread of its own.

    Modes, hooks on saved tensors, autocast, inference mode and the like are a thread's own, so
    whatever surrounds the caller neither sees the examination nor changes it.
    """
    found: list[T] = []

    def work() -> None:
        try:
            found.append(examine())
        except Exception as error:  # whatever another PyTorch raises
            found.append(otherwise(f"examining it raises {_named(error)}"))

    thread = threading.Thread(target=work, name="h2ot-kernels")
    try:
        thread.start()
    except RuntimeError as error:
        return otherwise(f"examining it raises {_named(error)}")
    thread.join()
    return found[0]


def _named(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _examine() -> Status:
    reasons = [f"it lacks {name}" for name in private.MISSING]
    lacking = private.MISSING.values()
    if private.UNUSABLE:
        return Status(False, why="; ".join(reasons))
    types: list[torch.dtype] = []
    if torch.backends.mkldnn.is_available() and private.ONEDNN not in lacking:
        types = [torch.float32]
        if private.BFLOAT16 not in lacking and private.is_bfloat16_supported():
            types.append(torch.bfloat16)
    for dtype in tuple(types):
        wrong = _differences(_products(dtype), _TOLERANCE[dtype])
        if wrong:
            types.remove(dtype)
            reasons += [f"in {str(dtype).partition('.')[2]} {what}" for what in wrong]
    return Status(True, tuple(types), "; ".join(reasons))


def _wrong_gradients() -> list[str]:
    return _differences(_gradients(), 1e-4)


Check = tuple[str, Callable[[], Tensor], Callable[[], Tensor]]
"""What is compared, the fast way and the plain one."""


def _differences(checks: Iterable[Check], tolerance: float) -> list[str]:
    """What raises or disagrees, and how."""
    wrong = []
    for what, fast, plain in checks:
        try:
            one, other = fast().detach().double(), plain().detach().double()
            apart = float((one - other).abs().max() / other.abs().max())
        except Exception as error:  # whatever another PyTorch raises
            wrong.append(f"{what} raises {_named(error)}")
            continue
        if one.shape != other.shape or not apart <= tolerance:  # nor NaN
            wrong.append(f"{what} differs by {apart:.1e} of the largest value")
    return wrong


def _values(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers between -1 and 1, no two alike, without a random generator."""
    n = math.prod(shape)
    line = torch.arange(1, n + 1, dtype=torch.float32, device="cpu")
    return line.mul(0.7 + n / 1000).sin().reshape(shape).to(dtype)


def _products(dtype: torch.dtype) -> Iterator[Check]:
    """A linear layer with all that goes into it, the product per group, a norm."""
    from h2ot_core.kernels import inference

    x, weight, bias = (_values(*shape, dtype=dtype) for shape in ((2, 3, 8), (4, 8), (4,)))
    scale, add = _values(4, dtype=dtype) + 2, _values(2, 3, 4, dtype=dtype)
    gain, groups = _values(8, dtype=dtype), _values(3, 4, 8, dtype=dtype)
    packed = inference.PackedWeights([weight, bias])

    def fast(**after: Any) -> Callable[[], Tensor]:
        return no_gradients(lambda: inference.linear(x, weight, bias, **after))

    def packed_way() -> Tensor:
        with inference.packing(packed):
            inference.linear(x, weight, bias)
            return inference.linear(x, weight, bias)

    def no_gradients(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return torch.inference_mode()(work)

    plain = functional.linear(x, weight, bias)
    yield "a linear layer", fast(), lambda: plain
    yield "a linear layer with GELU", fast(act="gelu"), lambda: functional.gelu(plain)
    yield "a linear layer with tanh", fast(act="tanh"), lambda: plain.tanh()
    yield "a scaled linear layer", fast(scale=scale, add=add), lambda: scale * plain + add
    yield "a packed linear layer", no_gradients(packed_way), lambda: plain
    yield (
        "a product per group",
        no_gradients(lambda: inference.grouped(x, groups)),
        lambda: (x.unsqueeze(2) * groups).sum(dim=-1),
    )
    yield (
        "a layer norm",
        no_gradients(lambda: private.layer_norm(x, (8,), gain, gain, 1e-5)),
        lambda: functional.layer_norm(x, (8,), gain, gain, 1e-5),
    )


def _gradients() -> Iterator[Check]:
    """Gradients of the pairs of layers.

    No module is made or called, here and above: hooks on all modules would be called too.
    """
    from h2ot_core.kernels import training

    x = _values(2, 3, 8).requires_grad_()
    normal = (_values(8).requires_grad_(), _values(8).add(1).requires_grad_())
    weight, bias = _values(6, 8).requires_grad_(), _values(6).requires_grad_()
    inputs = [x, weight, bias]

    def gradients(work: Callable[[], Tensor], others: Iterable[Tensor] = ()) -> Any:
        y = work()
        found = torch.autograd.grad(y.mul(_values(*y.shape)).sum(), [*inputs, *others])
        return torch.cat([one.flatten() for one in (y, *found)])

    def parts() -> Tensor:
        return torch.cat(training._NormLinear.apply(x, *normal, 1e-5, weight, bias, 2), dim=-1)

    yield (
        "the gradient of a linear layer",
        lambda: gradients(lambda: training._Linear.apply(x, weight, bias)),
        lambda: gradients(lambda: functional.linear(x, weight, bias)),
    )
    yield (
        "the gradient of a norm and a linear layer",
        lambda: gradients(parts, normal),
        lambda: gradients(
            lambda: functional.linear(functional.layer_norm(x, (8,), *normal), weight, bias), normal
        ),
    )
    yield (
        "the gradient of GELU and a linear layer",
        lambda: gradients(lambda: training._GeluLinear.apply(x, weight, bias)),
        lambda: gradients(lambda: functional.linear(functional.gelu(x), weight, bias)),
    )
