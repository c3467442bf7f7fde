"""Checks that the inputs and outputs of graphs are arrays as the manifest describes, for any backend.

A graph whose outputs have another shape or type may still run to the end, because arrays of other shapes are broadcast.
The likelihood would then be wrong.
"""

from collections.abc import Callable
from pathlib import Path

from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.bundle_errors import WrongShape
from caflow_runtime.bundle.manifest import Port
from caflow_runtime.flow.level_chain import Array, Arrays

Describe = Callable[[Array], tuple[str, tuple[int, ...]]]
"""Function that returns the type of an array, as manifests name it, and the array's shape."""


class GraphPorts:
    """Inputs and outputs of a graph. A named size must be equal wherever its name occurs in a run.

    The messages of errors name the graph and its input or output.
    """

    def __init__(self, graph: bundle.Graph, path: Path, describe: Describe) -> None:
        self.graph, self.path, self.describe = graph.name, path, describe
        self._inputs, self._outputs = _by_name(graph.inputs), _by_name(graph.outputs)

    def check_inputs(self, arrays: Arrays) -> dict[str, int]:
        """Check the arrays that the graph has inputs for. Return the named sizes.

        Raises:
            WrongShape: if an array differs.
        """
        sizes: dict[str, int] = {}
        for name, array in arrays.items():
            if name in self._inputs:
                self._check(name, array, self._inputs[name], sizes)
        return sizes

    def check_outputs(self, results: Arrays, sizes: dict[str, int]) -> None:
        """Check the outputs of a run.

        Arguments:
            sizes: named sizes of the inputs.

        Raises:
            WrongShape: if an output is missing, unknown or different.
        """
        if results.keys() != self._outputs.keys():
            raise WrongShape(
                f"{self.path}: the graph {self.graph} must have the outputs {', '.join(self._outputs)}; got "
                f"{', '.join(results)}: export the model again"
            )
        for name, array in results.items():
            self._check(name, array, self._outputs[name], sizes)

    def _check(self, name: str, array: Array, wanted: "_Wanted", sizes: dict[str, int]) -> None:
        port, shape_of_port = wanted
        type_name, shape = self.describe(array)
        if type_name != port.type or not _fits(shape, shape_of_port, sizes):
            known = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            raise WrongShape(
                f"{self.path}: the graph {self.graph} must have {name} of type {port.type} and shape {port.shape} "
                f"({known}); got {type_name} and {list(shape)}: export the model again"
            )


_Wanted = tuple[Port, list[tuple[int, str]]]
"""A port, and the factor and the name of each of its sizes."""


def _by_name(ports: list[Port]) -> dict[str, _Wanted]:
    return {port.name: (port, [_factor_and_name(size) for size in port.shape]) for port in ports}


def _factor_and_name(size: int | str) -> tuple[int, str]:
    """Return the factor and the name of a size. A fixed number is a factor without a name."""
    if isinstance(size, int):
        return size, ""
    factor, _, name = size.rpartition("*")
    return int(factor or 1), name


def _fits(shape: tuple[int, ...], wanted: list[tuple[int, str]], sizes: dict[str, int]) -> bool:
    """Return whether a shape is as wanted. Names that occur for the first time are added to `sizes`."""
    if len(shape) != len(wanted):
        return False
    for side, (factor, name) in zip(shape, wanted, strict=True):
        unit = sizes.setdefault(name, side // factor) if name else 1
        if side < 1 or side != factor * unit:
            return False
    return True
