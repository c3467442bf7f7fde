"""Runs one reader on many damaged inputs in this process: python tests/fuzz/fuzzing.py READER FIRST COUNT FOLDER

Every input depends only on the reader's name and the input's number. The current number is stored in FOLDER/number, so
that it is known even after a crash. An input that takes longer than `LIMIT_S` ends the process.
"""

import faulthandler
import json
import random
import resource
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

LIMIT_S = 60.0
"""Timeout of one input, in seconds. It is long enough for a busy machine."""
MAX_PEAK_BYTES = 2**30
"""Largest growth of the process's memory by inputs, all of which are smaller than 2 MB."""
MAX_BYTES = 16 * 2**30
"""Limit of the process's address space, in bytes. Most of the reserved space is never used."""
REFUSED = "refused"
"""Outcome of an input for which a documented error was raised."""

Attempt = Callable[[random.Random], str]
"""Function that reads one input and returns the outcome. It raises an exception if the reader behaves wrongly."""

READERS: dict[str, tuple[str, int]] = {
    "bundles": ("fuzz_bundles", 2),
    "lists": ("fuzz_jobs", 100),
    "image_batches": ("fuzz_jobs", 80),
    "scores": ("fuzz_jobs", 80),
    "pipes": ("fuzz_videos", 40),
    "videos": ("fuzz_videos", 12),
    "images": ("fuzz_images", 140),
    "paintings": ("fuzz_images", 20),
    "checkpoints": ("fuzz_training", 20),
    "reference_checkpoints": ("fuzz_training", 4),
    "http_requests": ("fuzz_requests", 80),
    "c_calls": ("fuzz_calls", 25),
}
"""For each reader: the module with the function of its name, and its weight among all inputs."""


def run(name: str, first: int, count: int, folder: Path) -> Counter[str]:
    """Return how often each outcome occurred.

    Arguments:
        folder: empty folder for the reader's files.
    """
    attempt: Attempt = getattr(import_module(READERS[name][0]), name)(folder)
    seen, before = Counter[str](), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (folder / "number").open("wb", buffering=0) as progress:
        for number in range(first, first + count):
            progress.seek(0)
            progress.write(b"%d" % number)
            faulthandler.dump_traceback_later(LIMIT_S, exit=True)
            try:
                seen[attempt(random.Random(f"{name} {number}"))] += 1
            except Exception:
                seen["failed"] += 1
                print(f"{name} {number}:", traceback.format_exc(), file=sys.stderr)
    faulthandler.cancel_dump_traceback_later()
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MAX_PEAK_BYTES, f"an input took {grown / 1e6:.0f} MB"
    return seen


if __name__ == "__main__":
    sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("support", "runtime")]
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    reader, first, count, folder = sys.argv[1:]
    print(json.dumps(run(reader, int(first), int(count), Path(folder))))
