"""Checks that the inputs and outputs of graphs are arrays as the manifest describes, for any backend.

A graph whose outputs have another shape or type may still run to the end, because arrays of other shapes are broadcast.
The likelihood would then be wrong.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.manifest import Port
from caflow_runtime.bundle.wrong_bundle import WrongShape
from caflow_runtime.flow.scan import Array, Arrays, Graph

Describe = Callable[[Array], tuple[str, tuple[int, ...]]]
"""Function that returns the type of an array, as manifests name it, and the array's shape."""


def checked(run: Graph, graph: bundle.Graph, path: Path, describe: Describe) -> Graph:
    """Return `run` with checks of its inputs and outputs. A named size must be equal wherever its name occurs.

    Raises:
        WrongShape: when the graph runs; the message names the graph and its input or output.
    """
    inputs, outputs = _Ports(graph.name, graph.inputs, path), _Ports(graph.name, graph.outputs, path)

    def run_checked(arrays: Arrays) -> dict[str, Array]:
        sizes: dict[str, int] = {}
        given = {name: describe(array) for name, array in arrays.items() if name in inputs.ports}
        inputs.check(given, sizes)
        results = run(arrays)
        if results.keys() != outputs.ports.keys():
            raise WrongShape(
                f"{path}: the graph {graph.name} must have the outputs {', '.join(outputs.ports)}; got "
                f"{', '.join(results)}: export the model again"
            )
        outputs.check({name: describe(array) for name, array in results.items()}, sizes)
        return results

    return run_checked


class _Ports:
    """The inputs or the outputs of a graph."""

    def __init__(self, graph: str, ports: list[Port], path: Path) -> None:
        self.graph, self.path = graph, path
        self.ports = {port.name: port for port in ports}
        self._sizes = {port.name: [_factor_and_name(size) for size in port.shape] for port in ports}

    def check(self, found: Mapping[str, tuple[str, tuple[int, ...]]], sizes: dict[str, int]) -> None:
        """Check types and shapes of arrays.

        Arguments:
            found: type and shape of each array.
            sizes: known values of named sizes. Names that occur for the first time are added.

        Raises:
            WrongShape: if an array differs.
        """
        for name, (type_name, shape) in found.items():
            port = self.ports[name]
            if type_name != port.type or not _fits(shape, self._sizes[name], sizes):
                known = ", ".join(f"{name} = {size}" for name, size in sizes.items())
                raise WrongShape(
                    f"{self.path}: the graph {self.graph} must have {name} of type {port.type} and shape {port.shape} "
                    f"({known}); got {type_name} and {list(shape)}: export the model again"
                )


def _factor_and_name(size: int | str) -> tuple[int, str]:
    """Return the factor and the name of a size. A fixed number is a factor without a name."""
    if isinstance(size, int):
        return size, ""
    factor, _, name = size.rpartition("*")
    return int(factor or 1), name


def _fits(shape: tuple[int, ...], wanted: list[tuple[int, str]], sizes: dict[str, int]) -> bool:
    if len(shape) != len(wanted):
        return False
    for side, (factor, name) in zip(shape, wanted, strict=True):
        unit = sizes.setdefault(name, side // factor) if name else 1
        if side < 1 or side != factor * unit:
            return False
    return True
