"""Fuzzing of bundles: damage is refused, or does not change the results."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing import REFUSED, Attempt
from mutations import changed_bytes, changed_json
from tiny import TINY

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.errors import CaflowError
from caflow_runtime.pipeline.pipeline import load

CONDITION = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


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
