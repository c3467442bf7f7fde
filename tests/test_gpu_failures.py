"""GPU code under failures, on fake libraries: calls fail, memory runs out, work runs early or late.

The fakes fail in ways that the documentation of the libraries allows. They cannot show the order in which a real GPU
works (they work as early or as late as allowed), the memory of real engines, or whether a real driver recovers.
"""

import gc
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Protocol, TypeVar

import numpy as np
import pytest
from fake_gpu import state
from fake_gpu.calls import CALLS, Site
from fake_gpu.install import fakes
from fake_gpu.memory import MEMORY
from fake_gpu.queues import Schedule
from fake_gpu.tensorrt.context import RtxContext
from tiny import photograph

from caflow_export.to_tensorrt import build_engines
from caflow_runtime.backends.cuda_device import Recording
from caflow_runtime.errors import BackendError
from caflow_runtime.image import Image
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.pipeline.results import Best

pytestmark = pytest.mark.filterwarnings("ignore:.*runs without CUDA graphs", "ignore:memory ran out")
SEEDS = range(3)
"""Three draws: the chain first runs, is then recorded as a CUDA graph, and is then repeated from the recording."""
SAMPLES = 4

Result = TypeVar("Result")


class Attempt(Protocol):
    """Function that calls `work`, once or with a retry."""

    def __call__(self, work: Callable[[], Result]) -> Result: ...


@pytest.fixture(scope="module")
def engines(uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle with engines for the fake GPU."""
    folder = Path(shutil.copytree(uncalibrated, tmp_path_factory.mktemp("engines") / "model.caflow"))
    with fakes():
        build_engines(folder, max_rows=4, max_size=(64, 64))
    return folder


@pytest.fixture(autouse=True)
def fake() -> Iterator[None]:
    """A fake GPU. The test fails if its libraries are misused or if anything is not freed."""
    gc.collect()
    gc.freeze()  # garbage collections need not visit the objects that exist already
    with fakes():
        yield
        CALLS.fails = lambda _: False
        left = state.left()
    gc.unfreeze()
    assert left == {}


@pytest.fixture
def condition(photographs: Path) -> Image:
    return photograph(photographs, 0, 8, 8)


@pytest.fixture
def expected(uncalibrated: Path, condition: Image) -> list[Best]:
    """Samples that the CPU draws."""
    with load(uncalibrated, backend="cpu") as cpu:
        return [cpu.best_of(condition, n=SAMPLES, seed=seed) for seed in SEEDS]


def use(engines: Path, condition: Image, attempt: Attempt) -> list[Best]:
    """Load a pipeline, draw, score and close it; return the samples. Each step is run by `attempt`."""
    pipe = attempt(lambda: load(engines, backend="tensorrt"))
    try:
        best = []
        for seed in SEEDS:
            best.append(attempt(lambda seed=seed: pipe.best_of(condition, n=SAMPLES, seed=seed)))  # type: ignore[misc]
        attempt(lambda: pipe.score(best[0].images, condition))
    finally:
        attempt(pipe.close)
    return best


def once(work: Callable[[], Result]) -> Result:
    return work()


def twice(work: Callable[[], Result]) -> Result:
    """Call `work`, and call it once more if it fails with an error that the project documents."""
    try:
        return work()
    except (BackendError, MemoryError):
        return work()


def check(results: list[Best], expected: list[Best]) -> None:
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one.sample, other.sample)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_allclose(one.log_likelihood, other.log_likelihood, rtol=1e-6)


def places(engines: Path, condition: Image, lines: int) -> list[Site]:
    """Return the places where the code calls the libraries, each with the innermost `lines` lines of the call stack."""
    state.reset()
    use(engines, condition, once)
    return list(dict.fromkeys(site[: 1 + lines] for site in CALLS.sites))


class FailsFrom:
    """Rule for which calls fail: the first one from a place and, if the GPU is lost by it, all later ones."""

    def __init__(self, place: Site, is_lost: bool) -> None:
        self.place = place
        self.is_lost = is_lost
        self.has_failed = False

    def __call__(self, site: Site) -> bool:
        if self.has_failed:
            return self.is_lost
        self.has_failed = site[: len(self.place)] == self.place
        CALLS.is_lost = self.has_failed and self.is_lost
        return self.has_failed


def problem(place: Site, is_lost: bool, work: Callable[[], None]) -> str | None:
    """Let a call fail during `work`; return what was raised or not freed, or None."""
    state.reset()
    CALLS.fails = FailsFrom(place, is_lost)
    raised = None
    try:
        work()
    except Exception as error:
        raised = repr(error)
    CALLS.fails = lambda _: False
    left = state.left()
    return f"{place}: {raised}, left {left}" if raised or left else None


LINES = [pytest.param(2, id="some"), pytest.param(4, id="all", marks=pytest.mark.full)]


@pytest.mark.parametrize("lines", LINES)
def test_a_call_that_fails_once_is_reported_and_done_with(
    engines: Path, condition: Image, expected: list[Best], lines: int
) -> None:
    found = places(engines, condition, lines)
    assert len(found) > 60
    wrong = [problem(place, False, lambda: check(use(engines, condition, twice), expected)) for place in found]
    assert [one for one in wrong if one] == []


@pytest.mark.parametrize("lines", LINES)
def test_a_gpu_that_is_lost_is_reported_and_nothing_is_left(engines: Path, condition: Image, lines: int) -> None:
    def work() -> None:
        try:
            use(engines, condition, once)
        except (BackendError, MemoryError):
            return

    wrong = [problem(place, True, work) for place in places(engines, condition, lines)]
    assert [one for one in wrong if one] == []


def test_memory_that_runs_out_is_survived_or_reported(engines: Path, condition: Image, expected: list[Best]) -> None:
    def outcome() -> str:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                with load(engines, backend="tensorrt") as pipe:
                    check([pipe.best_of(condition, n=SAMPLES, seed=seed) for seed in SEEDS], expected)
            except MemoryError:
                return "reported"
        return "halved" if any("memory ran out" in str(one.message) for one in warned) else "enough"

    with load(engines, backend="tensorrt") as pipe:
        check([pipe.best_of(condition, n=SAMPLES, seed=seed) for seed in SEEDS], expected)
        most, outcomes = MEMORY.reserved + MEMORY.engines, []
    for share in np.linspace(1.2, 0.1, 34):
        state.reset(capacity=int(share * most))
        outcomes.append(outcome())
        assert state.left() == {}
    assert outcomes == sorted(outcomes, key=["enough", "halved", "reported"].index)
    assert set(outcomes) == {"enough", "halved", "reported"}


@pytest.mark.parametrize("schedule", ["early", "late"])
def test_results_do_not_depend_on_when_work_is_done(
    engines: Path, condition: Image, expected: list[Best], schedule: Schedule
) -> None:
    state.reset(schedule=schedule)
    check(use(engines, condition, once), expected)


def test_what_is_recorded_is_repeated_after_a_larger_image(
    engines: Path, condition: Image, expected: list[Best], photographs: Path
) -> None:
    with load(engines, backend="tensorrt") as pipe:
        for _ in range(2):
            check([pipe.best_of(condition, n=SAMPLES, seed=seed) for seed in SEEDS], expected)
            pipe.best_of(photograph(photographs, 1, 16, 16), n=1)  # needs a larger activation memory


def test_an_engine_that_cannot_be_recorded_is_the_reason_that_is_named(
    engines: Path, condition: Image, expected: list[Best], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RtxContext, "is_stream_capturable", lambda *_: False)
    with pytest.warns(UserWarning, match=r"runs without CUDA graphs: .*\.engine: .* cannot record this engine"):
        check(use(engines, condition, once), expected)


def test_a_recording_that_cannot_be_repeated_is_named_and_not_needed(
    engines: Path, condition: Image, expected: list[Best], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the launch failed")

    monkeypatch.setattr(Recording, "repeat", fail)
    with pytest.warns(UserWarning, match="runs without CUDA graphs: the launch failed"):
        check(use(engines, condition, once), expected)


def test_engines_may_be_opened_by_a_relative_path(
    engines: Path, condition: Image, expected: list[Best], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines are loaded after the working directory has changed."""
    monkeypatch.chdir(engines.parent)
    with load(engines.name, backend="tensorrt") as pipe:
        monkeypatch.chdir(tmp_path)
        check([pipe.best_of(condition, n=SAMPLES, seed=seed) for seed in SEEDS], expected)


def test_another_thread_may_be_the_one_that_frees_a_pipeline(engines: Path, condition: Image) -> None:
    held = [load(engines, backend="tensorrt")]
    for seed in SEEDS:
        held[0].best_of(condition, n=SAMPLES, seed=seed)

    def free() -> None:
        held.clear()
        gc.collect()

    thread = Thread(target=free)
    thread.start()
    thread.join()


def test_tensorrt_itself(
    engines: Path, condition: Image, expected: list[Best], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "tensorrt-10.13.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt\nVersion: 10.13.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = Path(shutil.copytree(engines, tmp_path / "model.caflow", ignore=shutil.ignore_patterns("engines")))
    build_engines(folder, flavor="tensorrt", max_rows=4, max_size=(64, 64))
    check(use(folder, condition, once), expected)
