"""`caflow doctor` and `caflow bench`: whether an installation works, and how fast it is."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import caflow, json_lines
from msgspec.structs import replace

from caflow_deploy.health import doctor
from caflow_runtime.bundle.reading import describe_file, read_manifest, write_manifest
from caflow_runtime.bundle.stored_checkpoint import NAME
from caflow_runtime.ood.calibration import read_calibration, write_calibration


def checks_of(bundle: Path, code: int | None = None) -> dict[str, dict[str, str]]:
    """Return what `caflow doctor` finds, by the name of the check."""
    return {check["name"]: check for check in json_lines(caflow("doctor", bundle, "--json", code=code).stdout)}


def test_caflow_bench_measures_latency_and_throughput(uncalibrated: Path) -> None:
    command = ["bench", uncalibrated, "--side", 16, "-n", "1,4", "--seconds", 0]
    *lines, best = json_lines(caflow(*command, "--json").stdout)
    assert [line["samples"] for line in lines] == [1, 4]
    assert ([line["kind"] for line in lines], best["kind"]) == (["latency"] * 2, "throughput")
    assert best["gpu_memory"] is None
    assert all(line["median_s"] > 0 and line["backend"] == "onnxruntime cpu" for line in lines)
    graphs = {graph.name: graph.operations_per_pixel * 16**2 for graph in read_manifest(uncalibrated).graphs}
    row = sum(graphs[f"{name}_{j}"] for name in ("decode", "reverse") for j in range(2))
    assert np.isclose(lines[1]["operations"], graphs["encode"] + 4 * row)
    assert "best batch" in caflow("bench", uncalibrated, "--side", 16, "-n", 1, "--seconds", 0).stdout
    caflow("bench", uncalibrated, "-n", "few", code=2)


def test_caflow_doctor_passes_a_valid_bundle_and_names_a_damaged_file(copied: Path) -> None:
    states = {name: check["state"] for name, check in checks_of(copied, code=0).items()}
    assert states["onnxruntime cpu"] == states["bundle"] == "ok"
    assert states["onnxruntime cpu: noise of level 0 after decode and likelihood"] == "ok"
    assert states["onnxruntime cpu: an item alone and in a batch, pixels"] == "ok"
    assert states["calibration"] == "absent"
    (copied / "decode_0.onnx").write_bytes(b"damaged")
    damaged = caflow("doctor", copied, code=1)
    assert "decode_0.onnx" in damaged.stdout
    assert "copy or export the bundle again" in damaged.stdout


def test_caflow_doctor_says_how_to_install_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"video": "av", "page": "a-package-that-is-missing"})
    video, page = (one for one in doctor.check_environment() if one.name.startswith("extra"))
    assert (video.state, video.found) == ("ok", f"av {version('av')}")
    assert (page.state, page.remedy) == ("absent", "pip install 'caflow-deploy[page]'")


def test_caflow_doctor_finds_a_changed_checkpoint(copied: Path) -> None:
    """The manifest does not list it."""
    assert "weights, as they were exported" in caflow("doctor", copied, code=0).stdout
    text = (copied / NAME).read_text()
    assert '"log_scale_bound":' in text
    (copied / NAME).write_text(text.replace('"log_scale_bound":', '"log_scale_bound":1', 1))
    done = caflow("doctor", copied, code=1)
    assert "its settings differ from those that were exported" in done.stdout


def test_caflow_doctor_finds_a_graph_that_computes_wrong_densities(copied: Path) -> None:
    """The file is complete and its hash is correct, so only the self-test of the flow can find the error."""
    proto = onnx.load(copied / "decode_0.onnx", load_external_data=False)
    (node,) = (node for node in proto.graph.node if "log_likelihood_map" in node.output)
    node.output[list(node.output).index("log_likelihood_map")] = "right"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1.5, np.float32), "factor"))
    proto.graph.node.append(onnx.helper.make_node("Mul", ["right", "factor"], ["log_likelihood_map"]))
    onnx.save(proto, copied / "decode_0.onnx")
    manifest = read_manifest(copied)
    graphs = [
        replace(graph, file=describe_file(copied, graph.file.path)) if graph.name == "decode_0" else graph
        for graph in manifest.graphs
    ]
    write_manifest(copied, replace(manifest, graphs=graphs))
    checks = checks_of(copied, code=1)
    assert checks["bundle"]["state"] == "ok"
    assert checks["onnxruntime cpu: noise of level 0 after decode and likelihood"]["state"] == "ok"
    density = checks["onnxruntime cpu: density: sampling against scoring, relative"]
    assert density["state"] == "failed"
    assert density["remedy"].startswith("do not use this bundle on onnxruntime cpu")


def test_caflow_doctor_compares_the_canary_of_the_calibration(copied_calibrated: Path) -> None:
    canary = "onnxruntime cpu: the canary's log-likelihood, relative"
    checks = checks_of(copied_calibrated)
    assert checks["calibration"]["state"] == checks[canary]["state"] == "ok"
    known = read_calibration(copied_calibrated)
    assert known is not None
    changed = known.canary.log_likelihood * (1 + 1e-4)
    write_calibration(copied_calibrated, replace(known, canary=replace(known.canary, log_likelihood=changed)))
    found = checks_of(copied_calibrated)[canary]
    assert (found["state"], "calibrated on onnxruntime cpu" in found["found"]) == ("failed", True)
    (copied_calibrated / "calibration.json").write_text("{}")
    assert checks_of(copied_calibrated)["calibration"]["remedy"] == "run caflow calibrate again"
