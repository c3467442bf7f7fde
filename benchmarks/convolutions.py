"""Convolutions of a model's graphs, and the time that they take alone on a CPU.

Each convolution runs with the shapes that it has in a graph, by oneDNN in PyTorch: channels are innermost, and weights
are packed in advance. These are the fastest kernels known for such shapes. So no runtime that computes the same
convolutions in the same number format can be much faster, whatever else it does.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CONVOLUTION = torch.ops.aten.convolution.default
HAS_BF16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""Whether this processor has the instructions that oneDNN requires for bfloat16."""


class Convolution(NamedTuple):
    """Shapes of one convolution without dilation."""

    input: tuple[int, ...]
    """(B, C, H, W)."""
    weight: tuple[int, ...]
    """(O, C / groups, kernel height, kernel width)."""
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int

    @property
    def operations(self) -> int:
        """Number of multiplications and additions."""
        sizes = zip(self.input[2:], self.weight[2:], self.stride, self.padding, strict=True)
        positions = math.prod((side + 2 * pad - kernel) // step + 1 for side, kernel, step, pad in sizes)
        return 2 * self.input[0] * positions * math.prod(self.weight)

    def prepare(self, dtype: torch.dtype) -> Callable[[], Tensor]:
        """Return a function that computes this convolution of random numbers."""
        x = torch.randn(self.input).to(dtype, memory_format=torch.channels_last)
        bias = torch.randn(self.weight[0]).to(dtype)
        geometry = [self.padding, self.stride, (1, 1), self.groups]
        operators = torch.ops.mkldnn  # those that torch.compile chooses, too
        weight = operators._reorder_convolution_weight(torch.randn(self.weight).to(dtype), *geometry, self.input)
        return lambda: operators._convolution_pointwise(x, weight, bias, *geometry, "none", [], "")


class Recorder(TorchDispatchMode):
    """Records the convolutions that run within its context, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.convolutions: list[Convolution] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is CONVOLUTION:
            x, weight, _, stride, padding, _, _, _, groups = args
            shapes = tuple(x.shape), tuple(weight.shape), tuple(stride), tuple(padding), groups
            self.convolutions.append(Convolution(*shapes))
        return func(*args, **(kwargs or {}))


CALL = Convolution((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), 1)
"""Convolution of a single number. Its time is that of the call of an operator in PyTorch."""


def convolutions_of(run: Callable[[], object]) -> list[Convolution]:
    """Return the convolutions of one run in PyTorch, in order."""
    recorder = Recorder()
    with torch.no_grad(), recorder:
        run()
    return recorder.convolutions


def one_by_one(convolutions: Sequence[Convolution], dtype: torch.dtype) -> Callable[[], None]:
    """Return a function that computes convolutions one after the other, each with weights of its own."""
    prepared = [convolution.prepare(dtype) for convolution in convolutions]

    def run() -> None:
        for compute in prepared:
            compute()

    return run
