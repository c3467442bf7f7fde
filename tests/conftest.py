"""Fixtures of all tests. Those that need PyTorch are in `development`, which `make test-runtime` does not load."""

import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from gpus import cache_folder, pytest_collection_modifyitems
from hypothesis import HealthCheck, settings
from made_once import made_once
from tiny import calibrated, completing, copied, copied_calibrated, photographs, pipe, uncalibrated

__all__ = [  # fixtures and a hook, which pytest finds here
    "cache_folder",
    "calibrated",
    "completing",
    "copied",
    "copied_calibrated",
    "photographs",
    "pipe",
    "pytest_collection_modifyitems",
    "uncalibrated",
]
pytest_plugins = ["development"] if find_spec("torch") else []

# No limits on time, which a busy machine would exceed.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C raise `KeyboardInterrupt`. A test run in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of clips of 32×16 pixels and about a second, and of files that are not videos. Do not change it."""
    from clips import make_clips  # here, because tests without videos require neither PyAV nor FFmpeg

    return made_once(tmp_path_factory, "clips", make_clips)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of video with B-frames and several key frames, sound, subtitles and chapters. Do not change it."""
    from clips import make_clip  # here for the same reason

    return made_once(tmp_path_factory, "clip", make_clip)
