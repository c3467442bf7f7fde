"""Runs a reader on many broken inputs in this process: python tests/fuzzing.py READER FIRST COUNT FOLDER

Every input follows from the reader's name and a number. The number that is being read is kept in FOLDER/number, so that
it is known even if the process crashes. An input that takes longer than `LIMIT_S` ends the process.
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
"""For one input, also on a machine that is busy."""
MOST_BYTES = 16 * 2**30
"""Of address space, most of which is never used."""
REFUSED = "refused"
"""The outcome where a documented error was raised."""

Attempt = Callable[[random.Random], str]
"""Reads one input, and says what came of it. Raises for whatever should not be."""

READERS: dict[str, tuple[str, int]] = {
    "bundle_files": ("fuzz_bundles", 40),
    "bundles": ("fuzz_bundles", 2),
    "calibrations": ("fuzz_bundles", 100),
    "engine_sets": ("fuzz_bundles", 60),
    "lists": ("fuzz_jobs", 100),
    "filter_jobs": ("fuzz_jobs", 80),
    "image_batches": ("fuzz_jobs", 80),
    "scores": ("fuzz_jobs", 80),
    "journals": ("fuzz_videos", 60),
    "pipes": ("fuzz_videos", 40),
    "videos": ("fuzz_videos", 12),
    "images": ("fuzz_images", 140),
    "checkpoints": ("fuzz_training", 20),
    "bundle_checkpoints": ("fuzz_training", 20),
    "reference_checkpoints": ("fuzz_training", 4),
    "recipes": ("fuzz_training", 50),
    "http_requests": ("fuzz_requests", 80),
    "grpc_requests": ("fuzz_requests", 50),
    "python_calls": ("fuzz_calls", 25),
    "c_calls": ("fuzz_calls", 25),
}
"""Of each reader, the module with a function of its name, and its share of all inputs."""


def run(name: str, first: int, count: int, folder: Path) -> Counter[str]:
    """How often each outcome came.

    Arguments:
        folder: an empty one, for the reader's files.
    """
    attempt: Attempt = getattr(import_module(READERS[name][0]), name)(folder)
    seen: Counter[str] = Counter()
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
    return seen


if __name__ == "__main__":
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    reader, first, count, folder = sys.argv[1:]
    print(json.dumps(run(reader, int(first), int(count), Path(folder))))
