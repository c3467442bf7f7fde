"""Fuzzing: 20,000 damaged inputs, or CAFLOW_FUZZ_INPUTS, are read or refused with a documented error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import READERS

pytestmark = pytest.mark.full

INPUTS = int(os.environ.get("CAFLOW_FUZZ_INPUTS", "20000"))
SEED = int(os.environ.get("CAFLOW_FUZZ_SEED", "0"))
"""Seed of the inputs. Set CAFLOW_FUZZ_SEED to test different ones."""
APART = 10**7
"""Distance between the first input numbers of two seeds."""
COMMAND = Path(__file__).with_name("fuzzing.py")


@pytest.mark.parametrize("reader", READERS)
def test_damaged_inputs_are_read_or_refused_with_a_documented_error(
    reader: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    environment = dict(os.environ)
    if reader == "c_calls":
        environment["CAFLOW_LIBRARY"] = str(request.getfixturevalue("built_cpp") / "libcaflow.so")
    weights = sum(weight for _, weight in READERS.values())
    count = round(INPUTS * READERS[reader][1] / weights)
    command = [sys.executable, str(COMMAND), reader, str(SEED * APART), str(count), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, errors="replace")
    number = (tmp_path / "number").read_text()
    assert done.returncode == 0, f"{reader} {number} ended the process with {done.returncode}: {done.stderr[-5000:]}"
    seen = json.loads(done.stdout.splitlines()[-1])
    print(f"{reader}: {seen}")
    assert sum(seen.values()) == count
    assert not seen.get("failed"), done.stderr[-5000:]
