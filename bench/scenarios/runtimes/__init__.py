"""Ways to run a model: one table, one row each. A new one is a row."""

from __future__ import annotations

import torch

from bench.scenarios.runtimes import onnx_session, torch_modes
from bench.scenarios.runtimes.base import Runtime
from bench.scenarios.runtimes.torch_modes import rounded

RUNTIMES: dict[str, Runtime] = {
    "eager": Runtime(
        title="PyTorch, one operator after the other, float32",
        available=torch_modes.anywhere,
        prepare=torch_modes.eager,
    ),
    "packed": Runtime(
        title="PyTorch with weights laid out for oneDNN beforehand, float32",
        available=torch_modes.can_pack,
        prepare=torch_modes.packed,
    ),
    "compile": Runtime(
        title="torch.compile, whole graph, static shape, float32",
        available=torch_modes.can_compile,
        prepare=torch_modes.compiled,
    ),
    "cuda_graph": Runtime(
        title="recorded CUDA graph, replayed, float32",
        available=torch_modes.has_cuda,
        prepare=torch_modes.cuda_graph,
    ),
    "bf16": Runtime(
        title="weights and activations cast to bfloat16",
        available=torch_modes.anywhere,
        prepare=rounded(torch_modes.eager, torch.bfloat16),
    ),
    "packed_bf16": Runtime(
        title="weights laid out for oneDNN beforehand, cast to bfloat16",
        available=torch_modes.can_pack,
        prepare=rounded(torch_modes.packed, torch.bfloat16),
    ),
    "compile_bf16": Runtime(
        title="torch.compile of the model cast to bfloat16",
        available=torch_modes.can_compile,
        prepare=rounded(torch_modes.compiled, torch.bfloat16),
    ),
    "cuda_graph_bf16": Runtime(
        title="recorded CUDA graph of the model cast to bfloat16",
        available=torch_modes.has_cuda,
        prepare=rounded(torch_modes.cuda_graph, torch.bfloat16),
    ),
    "fp16": Runtime(
        title="weights and activations cast to float16",
        available=torch_modes.has_cuda,
        prepare=rounded(torch_modes.eager, torch.float16),
    ),
    "cuda_graph_fp16": Runtime(
        title="recorded CUDA graph of the model cast to float16",
        available=torch_modes.has_cuda,
        prepare=rounded(torch_modes.cuda_graph, torch.float16),
    ),
    "compile_cuda_graph_fp16": Runtime(
        title="torch.compile of the model cast to float16, recorded as a CUDA graph",
        available=torch_modes.can_compile_graph,
        prepare=rounded(torch_modes.compiled_graph, torch.float16),
    ),
    "tf32": Runtime(
        title="products in TF32, everything else float32",
        available=torch_modes.has_tf32,
        prepare=torch_modes.tf32,
    ),
    "onnx": Runtime(
        title="exported to ONNX (batch open), ONNX Runtime on the CPU, float32",
        available=onnx_session.available,
        prepare=onnx_session.prepare,
    ),
}
"""Name to runtime; the first is what the others are compared with."""
