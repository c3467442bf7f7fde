"""OpenVINO: results equal to those of ONNX Runtime, for all sizes and from several threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny import photograph

from caflow_runtime.errors import BackendError
from caflow_runtime.pipeline.pipeline import Pipeline, load

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def openvino(uncalibrated: Path) -> Iterator[Pipeline]:
    with load(uncalibrated, backend="openvino") as pipe:
        yield pipe


@pytest.mark.parametrize("sides", [(8, 8), (9, 13), (24, 8)])
def test_results_are_those_of_onnx_runtime(
    openvino: Pipeline, pipe: Pipeline, photographs: Path, sides: tuple[int, int]
) -> None:
    condition = photograph(photographs, 0, *sides)
    a, b = (one.best_of(condition, n=3) for one in (openvino, pipe))
    np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, rtol=1e-5)
    assert (a.images[0] != b.images[0]).mean() < 1e-3
    c, d = (one.score(b.images, condition) for one in (openvino, pipe))
    np.testing.assert_allclose(c.log_likelihood, d.log_likelihood, rtol=1e-5)


def test_results_do_not_depend_on_other_threads(openvino: Pipeline, photographs: Path) -> None:
    conditions = [photograph(photographs, k, 8, 8 + 4 * (k % 3)) for k in range(8)]
    alone = [openvino.best_of(condition, n=2) for condition in conditions]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda condition: openvino.best_of(condition, n=2), conditions))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.per_level, b.per_level)


def test_a_missing_input_of_a_graph_is_an_error(openvino: Pipeline) -> None:
    with pytest.raises(BackendError, match=r"reverse_0\.onnx: the graph requires an input 'latent'"):
        openvino.runner.graphs.backend.load(openvino.folder / "reverse_0.onnx")({})


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (1, 24, 2), (1, 24, 2, 2, 1)])
def test_inputs_of_another_shape_are_refused(openvino: Pipeline, shape: tuple[int, ...]) -> None:
    """OpenVINO itself accepts all of them, both in its first run and after a correct one."""
    run = openvino.runner.graphs.backend.load(openvino.folder / "reverse_0.onnx")
    for _ in range(2):
        with pytest.raises(
            BackendError, match=r"reverse_0\.onnx: input 'latent': expected shape \(any, 24, any, any\)"
        ):
            run({"latent": np.zeros(shape, np.float32)})
        assert run({"latent": np.zeros((1, 24, 2, 2), np.float32)})["next_carry"].shape == (1, 6, 4, 4)
