"""Floors of the benchmarks: the convolutions of a model's graphs, computed alone."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from convolutions import HAS_BF16, Convolution, one_by_one
from floors import convolutions_by_graph

from caflow_runtime.bundle.reading import read_manifest

SAMPLES = 3


def test_all_operations_of_the_graphs_are_counted(least_exported: Path) -> None:
    manifest, size = read_manifest(least_exported), (16, 32)
    found = convolutions_by_graph(least_exported, manifest.model, SAMPLES, size)
    for graph in manifest.graphs:
        if graph.name in found:
            times = 1 if graph.name == "encode" else SAMPLES
            counted = sum(convolution.operations for convolution in found[graph.name])
            assert counted == times * graph.operations_per_pixel * size[0] * size[1]
    levels = range(manifest.model.levels)
    assert set(found) == {"encode", *(f"{name}_{j}" for name in ("decode", "reverse") for j in levels)}


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        pytest.param(torch.bfloat16, marks=pytest.mark.skipif(not HAS_BF16, reason="the processor lacks bfloat16")),
    ],
)
@pytest.mark.parametrize(
    "convolution",
    [
        Convolution((2, 12, 6, 10), (8, 12, 3, 3), (1, 1), (1, 1), 1),
        Convolution((1, 12, 6, 10), (48, 3, 2, 2), (2, 2), (0, 0), 4),
    ],
)
def test_a_convolution_alone_has_the_shape_that_it_has_in_the_graph(
    convolution: Convolution, dtype: torch.dtype
) -> None:
    result = convolution.prepare(dtype)()
    x, weight = torch.zeros(convolution.input), torch.zeros(convolution.weight)
    wanted = F.conv2d(x, weight, None, convolution.stride, convolution.padding, 1, convolution.groups)
    assert result.shape == wanted.shape
    assert result.dtype == dtype
    one_by_one([convolution, convolution], dtype)()
