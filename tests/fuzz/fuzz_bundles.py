"""Fuzzing of bundles, calibrations and engine sets: damage is refused, or does not change the contents."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from fuzzing import REFUSED, Attempt
from mutations import changed_bytes, changed_file, changed_json
from tiny import TINY

from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.bundle.bundle_errors import BundleError
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import describe_file, read_manifest, sha256_of, verify_files
from caflow_runtime.errors import CaflowError
from caflow_runtime.file_io.strict_json import convert, read_json
from caflow_runtime.ood.calibration import NAME, Calibration, read_calibration, write_calibration
from caflow_runtime.ood.typicality import typicality
from caflow_runtime.pipeline.pipeline import load

IMAGES = 9
"""Number of images of the shortened calibration that these tests change."""
CONDITION = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


def bundle_files(folder: Path) -> Attempt:
    """Change a graph file or the weights, but not their hashes in the manifest."""
    copy = folder / "model.caflow"
    shutil.copytree(TINY, copy)
    (copy / "weights.bin").write_bytes(bytes(range(200)))  # The real weights are large; these are enough here.
    manifest = msgspec.structs.replace(read_manifest(copy), weights=[describe_file(copy, "weights.bin")])
    verify_files(copy, manifest)
    files = [copy / graph.file.path for graph in manifest.graphs] + [copy / "weights.bin"]

    def attempt(source: random.Random) -> str:
        path = source.choice(files)
        good = path.read_bytes()
        changed = changed_bytes(source, good)
        path.write_bytes(changed)
        try:
            verify_files(copy, manifest)
        except BundleError:
            assert changed != good
            return REFUSED
        finally:
            path.write_bytes(good)
        assert changed == good
        return "as it was"

    return attempt


def bundles(folder: Path) -> Attempt:
    """Change the model in the manifest, or a graph together with its hash; then run the bundle.

    A changed graph may give a different result. A changed manifest must not, except by its settings of sampling, in
    whose place the test passes its own.
    """
    copy = folder / "model.caflow"
    shutil.copytree(TINY, copy)
    contents = json.loads((copy / MANIFEST).read_bytes())
    model_only = contents["model"]
    wanted = _drawn(copy)

    def attempt(source: random.Random) -> str:
        changed = json.loads(json.dumps(contents))
        graph = source.choice(changed["graphs"])
        path = copy / graph["file"]["path"]
        good = path.read_bytes()
        is_of_graph = source.random() < 0.5
        if is_of_graph:
            path.write_bytes(changed_bytes(source, good))
            file = describe_file(copy, path.name)
            graph["file"] |= {"bytes": file.bytes, "sha256": file.sha256}
            text = json.dumps(changed).encode()
        else:
            text = json.dumps(contents | {"model": "…"}, ensure_ascii=False).encode()
            text = text.replace('"…"'.encode(), changed_json(source, model_only))
        (copy / MANIFEST).write_bytes(text)
        try:
            found = _drawn(copy)
        except CaflowError:
            return REFUSED
        finally:
            path.write_bytes(good)
        if found == wanted:
            return "the same"
        assert is_of_graph, f"a changed manifest gives a different result: {text[:3000]!r}"
        return "another graph"

    return attempt


def _drawn(folder: Path) -> tuple[Any, ...]:
    """Return images and likelihoods that a bundle draws and scores for one condition, as bytes."""
    with load(folder, backend="cpu", threads=1, is_calibrated=False) as pipe:
        best = pipe.best_of(CONDITION, n=2, temperature=0.8, rank="likelihood")
        score = pipe.score(np.asarray(best.images), CONDITION)
    assert np.asarray(best.images).dtype == np.uint8
    assert np.isfinite(best.log_likelihood).all()
    assert np.isfinite(score.log_likelihood).all()
    return np.asarray(best.images).tobytes(), best.per_level.tobytes(), score.per_level.tobytes()


def calibrations(folder: Path) -> Attempt:
    """Change a calibration."""
    (folder / MANIFEST).write_bytes((TINY / MANIFEST).read_bytes())
    write_calibration(folder, _short_calibration())
    path = folder / NAME
    contents = path.read_bytes()
    good = read_calibration(folder)

    def attempt(source: random.Random) -> str:
        path.write_bytes(changed_file(source, contents))
        try:
            found = read_calibration(folder)
        except BundleError:
            return REFUSED
        assert found is not None
        for typicality_model in (found.truth, *found.samples):
            measures = np.linspace(-1, 12, 4 * typicality_model.main.measures).reshape(4, -1)
            values = typicality(typicality_model, measures, np.tile([0.0, 3.0, 20.0, 63.0], (4, 1))).value
            assert ((values >= 0) & (values <= 1)).all()
        assert found == good, "a changed calibration was read"
        return "the same"

    return attempt


def _short_calibration() -> Calibration:
    """Return the calibration of the tests' bundle, with few quantiles."""
    contents = json.loads((TINY / NAME).read_bytes())
    contents["photographs"] = 1
    contents["samples"] = contents["samples"][:1]
    contents["coverage"] = contents["coverage"][:1]
    for typicality_model in (contents["truth"], *contents["samples"]):
        typicality_model["grey"] = None
        kind = typicality_model["coloured"]
        kind["images"] = IMAGES
        kind["groups"] = kind["groups"][:1]
        group = kind["groups"][0]
        group |= {"images": IMAGES, "sizes": [0.0, 64.0], "complexities": [0.0, 64.0]}
        group["distances"] = group["distances"][:IMAGES]
        kind["bits_per_dim"] = kind["bits_per_dim"][:IMAGES]
        for key in ("residuals", "bits_per_dim_per_level"):
            kind[key] = [quantiles[:IMAGES] for quantiles in kind[key]]
    return convert(contents, Calibration)


def engine_sets(folder: Path) -> Attempt:
    """Change the description of an engine set."""
    (folder / MANIFEST).write_bytes((TINY / MANIFEST).read_bytes())
    place = folder / "engines" / "rtx"
    place.mkdir(parents=True)
    (place / "encode.onnx").write_bytes(b"engine")
    good = engines.EngineSet(
        manifest_sha256=sha256_of(folder / MANIFEST),
        flavor="rtx",
        version="1.0",
        compute_capability="8.6",
        gpu=None,
        precision="fp32",
        profile=engines.Profile(4, 64, 64),
        engines=[engines.Engine("encode", describe_file(place, "encode.onnx"))],
    )
    engines.write(place, good)
    path = place / engines.DESCRIPTION
    contents = path.read_bytes()
    assert read_json(path, engines.EngineSet) == good

    def attempt(source: random.Random) -> str:
        path.write_bytes(changed_file(source, contents))
        [found] = engines.find(folder)
        if found.engines is None:
            return REFUSED
        return "stale" if found.stale else "usable"

    return attempt
