"""Counts what a graph's convolutions do: all but a few per cent of its work."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from caflow_export.to_onnx import GraphToTrace, Port


@torch.no_grad()
def count_operations(graph: GraphToTrace, cell: int) -> float:
    """Multiplications and additions of a graph's convolutions per row (`encode`: per image) and target pixel.

    Arguments:
        cell: side in target pixels of one `h` of the graph.
    """
    arguments = [port and _smallest(port) for port in (*graph.inputs, *graph.terms)]
    with FlopCounterMode(display=False) as counter:
        graph.module(*arguments)
    return float(counter.get_total_flops()) / cell**2


def _smallest(port: Port) -> torch.Tensor:
    """Zeros, with every named size 1."""
    sizes = [size if isinstance(size, int) else int(size.rpartition("*")[0] or 1) for size in port.shape]
    return torch.zeros(sizes, dtype=port.dtype)
