"""Floors of times: a chain of graphs whose layers run one after the other cannot be faster than that.

* The floor of the operations: the multiplications and additions of all convolutions and matrix products, divided by the
  rate of a large matrix product in the same number format. On a CPU, where libraries compute convolutions faster, it is
  the rate of a large convolution.
* The floor of the bytes: what these layers read and write if each runs on its own, divided by the rate of a large copy.
  Small tensors stay in the device's cache, so this floor says little about samples of 64×64 pixels.

The larger of the two is the floor. Both rates are measured in the same run as the times.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Seconds = Callable[[Callable[[], object]], float]
"""Function that times a run on the device, in seconds."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIDE, IMAGE = 8192, (1, 256, 64, 64)
"""Side of the square matrices of the product, and shape of the convolution's input and output."""


@dataclass(frozen=True)
class Rates:
    """Rates that a device reaches."""

    operations: dict[torch.dtype, float]
    """Multiplications and additions per second, by number format."""
    bytes: float
    """Bytes per second that a large copy within the device's memory reads and writes."""

    @classmethod
    def measured(cls, device: torch.device, seconds: Seconds) -> "Rates":
        """Return the rates of a device."""
        operations = {}
        for dtype in DTYPES:
            if device.type == "cuda":
                matrix = torch.randn(SIDE, SIDE, device=device).to(dtype)
                run, count = partial(torch.matmul, matrix, matrix), 2 * SIDE**3
            else:
                image = torch.randn(IMAGE).to(dtype, memory_format=torch.channels_last)
                kernel = torch.randn(IMAGE[1], IMAGE[1], 3, 3).to(dtype, memory_format=torch.channels_last)
                run, count = partial(F.conv2d, image, kernel, padding=1), 2 * kernel.numel() * IMAGE[2] * IMAGE[3]
            operations[dtype] = count / seconds(run)
        there = torch.randn((16 if device.type == "cuda" else 1) * SIDE**2, device=device)
        back = torch.empty_like(there)
        return cls(operations, 2 * there.nbytes / seconds(partial(back.copy_, there)))

    def figures(self) -> dict[str, float]:
        """Return the rates by name: 10¹² operations per second and 10¹² bytes per second."""
        rates = {f"{dtype} Tflop/s".removeprefix("torch."): rate / 1e12 for dtype, rate in self.operations.items()}
        return rates | {"TB/s": self.bytes / 1e12}


class Floor(NamedTuple):
    """Shortest possible time of a run, in seconds, and what it is due to."""

    seconds: float
    due_to: str
    """"operations" or "bytes"."""

    def beside(self, took: float) -> dict[str, Any]:
        """Return the cells of a table that compare the floor with the time of a run."""
        return {"floor ms": 1e3 * self.seconds, "due to": self.due_to, "floor / time": self.seconds / took}


class Work(TorchDispatchMode):
    """Work of all convolutions and matrix products that run within its context."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: Counter[torch.dtype] = Counter()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            tensors = [value for value in (*args, out) if isinstance(value, Tensor)]
            self.operations[tensors[0].dtype] += count(*args, **(kwargs or {}), out_val=out)
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return out

    @classmethod
    def of(cls, run: Callable[[], object]) -> "Work":
        """Return the work of one run."""
        work = cls()
        with work:
            run()
        return work

    def floor(self, rates: Rates) -> "Floor":
        """Return the floor of this work on a device with these rates."""
        operations = sum(count / rates.operations[dtype] for dtype, count in self.operations.items())
        return max(Floor(operations, "operations"), Floor(self.bytes / rates.bytes, "bytes"))
