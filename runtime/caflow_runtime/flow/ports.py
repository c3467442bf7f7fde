"""Whether the arrays that graphs take and give are those that the manifest describes, whatever backend runs them.

A graph that gives another shape or type may still run to the end, as arrays of other shapes are broadcast, and the
likelihood is then a wrong number.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from caflow_runtime.bundle import manifest as bundle
from caflow_runtime.bundle.manifest import Port
from caflow_runtime.bundle.wrong_bundle import WrongShape
from caflow_runtime.flow.scan import Array, Arrays, Graph

Describe = Callable[[Array], tuple[str, tuple[int, ...]]]
"""Type of an array, as manifests name it, and its shape."""


def checked(run: Graph, graph: bundle.Graph, path: Path, describe: Describe) -> Graph:
    """Return `run` with all that it takes and gives checked. A named size must be the same wherever it is named.

    Raises:
        WrongShape: naming the graph and its input or output, when it runs.
    """
    inputs, outputs = _Ports(graph.name, graph.inputs, path), _Ports(graph.name, graph.outputs, path)

    def run_checked(arrays: Arrays) -> dict[str, Array]:
        sizes: dict[str, int] = {}
        given = {name: describe(array) for name, array in arrays.items() if name in inputs.ports}
        inputs.check(given, sizes)
        results = run(arrays)
        if results.keys() != outputs.ports.keys():
            raise WrongShape(
                f"{path}: wanted {graph.name} with the outputs {', '.join(outputs.ports)}, got {', '.join(results)}: "
                "export the model again"
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
        """Arguments:
        sizes: those of the names that are known. The others are added.
        """
        for name, (type_name, shape) in found.items():
            port = self.ports[name]
            if type_name != port.type or not _fits(shape, self._sizes[name], sizes):
                known = ", ".join(f"{name} = {size}" for name, size in sizes.items())
                raise WrongShape(
                    f"{self.path}: wanted {self.graph} with {name} of {port.type} and shape {port.shape} ({known}), "
                    f"got {type_name} and {list(shape)}: export the model again"
                )


def _factor_and_name(size: int | str) -> tuple[int, str]:
    """A number is a multiple of one, which has no name."""
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
