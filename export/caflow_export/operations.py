"""Count of the operations in a graph's convolutions, which are all but a few per cent of its operations."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from caflow_export.to_onnx import GraphToTrace, Port


@torch.no_grad()
def count_operations(graph: GraphToTrace, cell: int) -> float:
    """Return the number of multiplications and additions in a graph's convolutions.

    The number is per target pixel and item; for `encode` it is per target pixel and image.

    Arguments:
        cell: number of target pixels, along one axis, that correspond to h = 1 in the shapes of the graph.
    """
    arguments = [port and _smallest(port) for port in (*graph.inputs, *graph.terms)]
    with FlopCounterMode(display=False) as counter:
        graph.module(*arguments)
    return float(counter.get_total_flops()) / cell**2


def _smallest(port: Port) -> torch.Tensor:
    """Return an input of zeros for a port, with every named size set to 1."""
    sizes = [size if isinstance(size, int) else int(size.rpartition("*")[0] or 1) for size in port.shape]
    return torch.zeros(sizes, dtype=port.dtype)
