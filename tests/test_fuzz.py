"""Fuzzing: 20,000 damaged inputs, or CAFLOW_FUZZ_INPUTS, are read or refused with a documented error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cpp_build import MISSING
from fuzzing import READERS
from reader_cases import graph_cases, manifest_cases
from test_bundle import a_bundle
from test_readers_agree import LARGEST_GRAPH, check_same, in_cpp, meaning_of_graph, meaning_of_manifest
from tiny import TINY

pytestmark = pytest.mark.full

INPUTS = int(os.environ.get("CAFLOW_FUZZ_INPUTS", "20000"))
SEED = int(os.environ.get("CAFLOW_FUZZ_SEED", "0"))
"""Seed of the inputs. Set CAFLOW_FUZZ_SEED to test different ones."""
APART = 10**7
"""Distance between the first input numbers of two seeds."""
COMMAND = Path(__file__).with_name("fuzzing.py")
MANIFESTS, GRAPHS = 0.15, 0.1
"""Fractions of all inputs that Python and C++ both read. The rest is divided among the other readers by weight."""


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_takes_or_refuses_whatever_comes(reader: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    environment = dict(os.environ)
    if reader == "c_calls":
        environment["CAFLOW_LIBRARY"] = str(request.getfixturevalue("built_cpp") / "libcaflow.so")
    weights = sum(weight for _, weight in READERS.values())
    count = round(INPUTS * (1 - MANIFESTS - GRAPHS) * READERS[reader][1] / weights)
    command = [sys.executable, str(COMMAND), reader, str(SEED * APART), str(count), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, errors="replace")
    number = (tmp_path / "number").read_text()
    assert done.returncode == 0, f"{reader} {number} ended the process with {done.returncode}: {done.stderr[-5000:]}"
    seen = json.loads(done.stdout.splitlines()[-1])
    print(f"{reader}: {seen}")
    assert sum(seen.values()) == count
    assert not seen.get("failed"), done.stderr[-5000:]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed (.ci/packages): {' '.join(MISSING)}")
def test_both_languages_agree_on_more_manifests(built_cpp: Path, tmp_path: Path) -> None:
    cases = list(manifest_cases(a_bundle(tmp_path / "bundle"), round(INPUTS * MANIFESTS), SEED + 1))
    ours = [meaning_of_manifest(case, tmp_path / "bundle") for case in cases]
    check_same(cases, ours, in_cpp(built_cpp, "m", cases, tmp_path))


@pytest.mark.skipif(bool(MISSING), reason=f"not installed (.ci/packages): {' '.join(MISSING)}")
def test_both_languages_agree_on_more_graphs(built_cpp: Path, tmp_path: Path) -> None:
    graphs = [contents for path in sorted(TINY.glob("*.onnx")) if len(contents := path.read_bytes()) < LARGEST_GRAPH]
    cases = list(graph_cases(graphs, round(INPUTS * GRAPHS), SEED + 1))
    ours = [meaning_of_graph(case) for case in cases]
    check_same(cases, ours, in_cpp(built_cpp, "g", cases, tmp_path))
