"""What the C++ tests are held against, in a folder: the bundles that are refused here, and Python's noise.

python tests/cpp_data.py FOLDER
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from test_bundle import a_bundle, wrong_bundles

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.flow.noise import Place, draw_noise, philox

CALLS = 10_000
SIDE = 128
LARGEST_SEED_BYTES = 2**14


def write_bundles(folder: Path) -> None:
    """Each beside a text: the names of the errors that are right, and what the message says."""
    for number, wrong in enumerate(wrong_bundles()):
        (folder / f"{number}").mkdir(parents=True)
        wrong.make(folder / f"{number}" / "bundle")
        names = " ".join(error.__name__ for error in wrong.errors)
        (folder / f"{number}" / "expected.txt").write_text(f"{names}\n{wrong.message}\n")


def write_noise(folder: Path) -> None:
    """Lines of a counter, a key and the four words they give; and normals of one window."""
    words = np.random.default_rng(0).integers(0, 2**32, (CALLS, 6), np.uint32)
    lines = []
    for row in words:
        given = [int(word) for word in row]
        made = philox([np.array([word], np.uint32) for word in given[:4]], (given[4], given[5]))
        lines.append(" ".join(map(str, [*given, *(int(word[0]) for word in made)])))
    (folder / "philox.txt").write_text("\n".join(lines) + "\n")
    normals = draw_noise([4], 2, Place(1000, 70_000, SIDE, SIDE, (4_000_000_000,)), seed=2**32 - 1, frame=7)
    (folder / "normals.bin").write_bytes(normals.tobytes())


def write_seeds(folder: Path) -> None:
    """Manifests that the fuzzer begins with: a good one, and those that are small and wrong."""
    folder.mkdir()
    a_bundle(folder.with_name("good"))
    manifests = folder.parent.glob("**/" + MANIFEST)
    for number, path in enumerate(sorted(manifests)):
        if path.stat().st_size < LARGEST_SEED_BYTES:
            shutil.copy(path, folder / f"{number}.json")


def write(folder: Path) -> None:
    """Everything, into a folder that is empty or not there."""
    write_bundles(folder / "bundles")
    write_seeds(folder / "seeds")
    write_noise(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve())
