"""Checks that a manifest describes a model that this version can run."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from os.path import realpath
from pathlib import Path

from caflow_runtime.bundle.bundle_errors import MissingGraph, PathOutside, UnknownFormat, WrongManifest, WrongShape
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.bundle.manifest import (
    DEGRADE,
    FORMAT,
    FORMAT_VERSION,
    LARGEST_SIZE,
    PER_IMAGE,
    File,
    Graph,
    Manifest,
    Model,
    Port,
    files_of,
    graph_names,
)
from caflow_runtime.degradation import PARAMETERS

PATH_BYTES = 255
"""Maximum length of a path, in bytes. File systems do not support longer file names."""
LOG_LIKELIHOOD_MAP = "log_likelihood_map"
"""Output of every graph of a level: its part of the log-likelihood, in nats."""
AXES, MAP_AXES = 4, 3
"""Number of axes of the arrays that graphs pass on, and of log-likelihood maps."""
SIZE = re.compile(r"([1-9][0-9]{0,4}\*)?[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""Pattern of a named size: a name, or a multiple of a name."""


def check_manifest(path: Path, manifest: Manifest) -> None:
    """Check a manifest, except the contents of the files that it lists.

    Arguments:
        path: path of the manifest. Links beside it must not lead out of its folder.

    Raises:
        BundleError: if the manifest is not valid.
    """
    _check_names(path, manifest)
    _check_sizes(path, manifest)
    _check_model(path, manifest.model)
    _check_graphs(path, manifest)
    for file in files_of(manifest):
        check_path(path, file)


def check_format(path: Path, contents: object) -> None:
    """Check format and version, before the fields are checked.

    Other versions may have different fields.

    Raises:
        UnknownFormat
    """
    found = (contents.get("format"), contents.get("format_version")) if isinstance(contents, dict) else (None, None)
    if found != (FORMAT, FORMAT_VERSION):
        raise UnknownFormat(
            f"{path}: expected format {FORMAT!r} version {FORMAT_VERSION}; got {found[0]!r} version {found[1]!r}: "
            "use the version of caflow-deploy that wrote the file, or export the checkpoint again"
        )


def _check_names(path: Path, manifest: Manifest) -> None:
    """Check that names are unique. Readers would otherwise choose different graphs or ports."""

    def check(what: str, names: Iterable[str]) -> None:
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise WrongManifest(f"{path}: the {what} must have different names; got {twice[0]!r} twice")

    check("graphs", (graph.name for graph in manifest.graphs))
    for graph in manifest.graphs:
        check(f"inputs of {graph.name}", (port.name for port in graph.inputs))
        check(f"outputs of {graph.name}", (port.name for port in graph.outputs))


def _check_sizes(path: Path, manifest: Manifest) -> None:
    for graph in manifest.graphs:
        for port in (*graph.inputs, *graph.outputs):
            for size in port.shape:
                if not (SIZE.fullmatch(size) if isinstance(size, str) else 1 <= size <= LARGEST_SIZE):
                    raise WrongManifest(
                        f"{path}: {graph.name}: {port.name}: a size must be a positive integer, a name such as 'h', or "
                        f"a multiple such as '2*h'; got {size!r}"
                    )


def _check_model(path: Path, model: Model) -> None:
    """Check that the model's numbers fit each other."""
    if model.size_multiple % 2 ** (model.levels + 1) or model.size_multiple % model.scale:
        raise WrongManifest(
            f"{path}: with {model.levels} levels and a scale of {model.scale}, size_multiple must be a multiple of "
            f"{2 ** (model.levels + 1)} and of {model.scale}; got {model.size_multiple}"
        )
    if model.condition_channels > VALUES and (model.scale > 1 or model.condition_color != "rgb"):
        raise WrongManifest(
            f"{path}: a model with {model.condition_channels} condition_channels must have the scale 1 and the "
            f"condition_color 'rgb'; got {model.scale} and {model.condition_color!r}"
        )


def _check_graphs(path: Path, manifest: Manifest) -> None:
    model = manifest.model
    by_name = {graph.name: graph for graph in manifest.graphs}
    missing = [name for name in graph_names(model.levels) if name not in by_name]
    if missing:
        raise MissingGraph(
            f"{path}: a model with {model.levels} levels requires the graph {missing[0]!r}, which is not listed"
        )
    if len(model.noise_channels) != model.levels:
        raise WrongShape(
            f"{path}: noise_channels must have {model.levels} entries, one per level; got {len(model.noise_channels)}"
        )
    for j, channels in enumerate(model.noise_channels):
        if not 1 <= len(channels) <= model.levels - j:
            raise WrongShape(
                f"{path}: noise_channels of level {j} must have 1 to {model.levels - j} entries; got {len(channels)}"
            )
        _check_port(path, by_name[f"decode_{j}"].inputs, f"decode_{j}", "z", ["items", sum(channels), "h", "w"])
    finest = f"reverse_{model.levels - 1}"
    _check_port(path, by_name[finest].outputs, finest, "pixels", ["items", "2*h", "2*w", model.channels])
    multiple = model.size_multiple // model.scale
    sides = [f"{multiple}*h", f"{multiple}*w"] if multiple > 1 else ["h", "w"]
    for name in PER_IMAGE:
        if name in by_name:  # `estimate` is optional
            _check_port(path, by_name[name].inputs, name, "condition", ["images", *sides, model.condition_channels])
    if DEGRADE in by_name:
        _check_degrade(path, by_name[DEGRADE], model)
    if "estimate" in by_name:
        wanted: list[int | str] = ["images", len(PARAMETERS)]
        _check_port(path, by_name["estimate"].outputs, "estimate", "degradation", wanted)
        _check_port(path, by_name["encode"].inputs, "encode", "degradation", wanted)
    for name, outputs in needed_outputs(model.levels).items():
        if name in by_name:  # `dequantize` and `degrade` are optional
            _check_outputs(path, by_name[name], outputs)


def _check_degrade(path: Path, graph: Graph, model: Model) -> None:
    """Check the graph that makes conditions from results, of any size that the scale divides."""
    sides = [f"{model.scale}*h", f"{model.scale}*w"] if model.scale > 1 else ["h", "w"]
    _check_port(path, graph.inputs, DEGRADE, "target", ["images", *sides, model.channels])
    if any(port.name == "condition" for port in graph.inputs):
        _check_port(path, graph.inputs, DEGRADE, "condition", ["images", "h", "w", model.condition_channels])


def needed_outputs(levels: int) -> dict[str, dict[str, str]]:
    """Return the outputs that the chain requires of each graph, with their types."""
    outputs = {"encode": {"prepared": "uint8"}, "to_image": {"integers": "uint8"}, DEGRADE: {"degraded": "float32"}}
    outputs["dequantize"] = dict.fromkeys(("pixels", LOG_LIKELIHOOD_MAP), "float32")
    for j in range(levels):
        carried = ["next_carry"] if j > 0 else []
        names = {
            "decode": ["latent", LOG_LIKELIHOOD_MAP],
            "reverse": ["pixels" if j == levels - 1 else "next_carry", LOG_LIKELIHOOD_MAP],
            "forward": ["latent", *carried, LOG_LIKELIHOOD_MAP],
            "likelihood": ["z", LOG_LIKELIHOOD_MAP],
        }
        outputs |= {f"{name}_{j}": dict.fromkeys(of_graph, "float32") for name, of_graph in names.items()}
    return outputs


def _check_outputs(path: Path, graph: Graph, outputs: Mapping[str, str]) -> None:
    """Check the outputs that the chain reads, with those parts of their shapes that are equal for all models."""
    ports = {port.name: port for port in graph.outputs}
    first = "images" if graph.name in (*PER_IMAGE, DEGRADE) else "items"
    for name, wanted in outputs.items():
        axes = MAP_AXES if name == LOG_LIKELIHOOD_MAP else AXES
        port = ports.get(name)
        if port is None or port.type != wanted or port.shape[:1] != [first] or len(port.shape) != axes:
            raise WrongShape(
                f"{path}: the graph {graph.name} must have the output {name} of type {wanted} with {axes} sizes, the "
                f"first of them {first!r}; got {port and (port.type, port.shape)}"
            )


def _check_port(path: Path, ports: list[Port], graph: str, name: str, shape: list[int | str]) -> None:
    found = next((port.shape for port in ports if port.name == name), None)
    if found != shape:
        raise WrongShape(f"{path}: the graph {graph} must have {name} of shape {shape}; got {found}")


def check_path(path: Path, file: File) -> None:
    """Check that a file that is listed in the file `path` is below the folder of `path`.

    Raises:
        PathOutside
    """
    is_plain = len(file.path.encode()) <= PATH_BYTES and not re.search(r"[\x00-\x1f\x7f\\:]", file.path)
    if not is_plain or any(part in ("", ".", "..") for part in file.path.split("/")):
        raise PathOutside(f"{path}: {file.path[: PATH_BYTES + 1]!r} is not a path inside the bundle")
    if not Path(realpath(path.parent / file.path)).is_relative_to(realpath(path.parent)):
        raise PathOutside(f"{path}: {file.path!r} leads out of the bundle through a link")
