"""The folder of a video's segments, until they are joined: `job.json` says of which job, and no other goes on there.

What is not the job's own stays, and keeps a job from beginning.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.jobs.folder import LOCK, NAME, State, check_same, is_passing, read_state, settings_of_pipeline
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.video.sink import Encoding

COMMAND = "caflow batch"
OWN = re.compile(rf"{re.escape(NAME)}|(\d{{5,}}|\.[0-9a-f]{{32}})\.\w+")
"""Names of files of a job: segments, what is known of them, and what killed processes have left."""


def settings_of(
    pipe: Pipeline, source: Path, streaming: StreamSettings, encoding: Encoding, segment_frames: int, **others: Any
) -> dict[str, Any]:
    """All that segments depend on; `others` is what else the pipeline was opened with. Reads all of the source."""
    encoded = {"codec": encoding.codec, "crf": encoding.crf, "bits": encoding.bits}
    drawn = msgspec.to_builtins(streaming)
    return {
        **settings_of_pipeline(pipe),
        **drawn.pop("draw"),
        **drawn,
        **encoded,
        **others,
        "segment_frames": segment_frames,
        "source": sha256_of(source),
    }


def open_folder(folder: Path, settings: dict[str, Any], force: bool) -> None:
    """Begin a job, or go on with the one that is there.

    Arguments:
        settings: `settings_of`.
        force: begin anew, whatever job is there.

    Raises:
        InputError: if the folder holds another job, or something else.
        OSError
    """
    if force:
        remove_folder(folder)
    if foreign := _foreign(folder):
        raise InputError(
            f"{folder} is where this job would keep its segments, and {foreign[0].name} in it is not the job's: move "
            "that, or give another -o"
        )
    found = read_state(folder, State, COMMAND)
    if found is not None:
        check_same(folder, found.settings, settings)
        return
    folder.mkdir(parents=True, exist_ok=True)
    State(settings).write(folder)


def remove_folder(folder: Path) -> None:
    """Remove a job's files, and the folder, unless something else is in it."""
    if not (folder / NAME).is_file():
        return
    foreign = set(_foreign(folder))
    own = [path for path in folder.iterdir() if path not in foreign and path.name != LOCK]  # the caller may hold it
    for path in sorted(own, key=lambda path: path.name == NAME):  # that one last: it says whose the others are
        path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _foreign(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    holds_a_job = (folder / NAME).is_file()
    return [
        path
        for path in folder.iterdir()
        if not is_passing(path) and not (holds_a_job and path.is_file() and OWN.fullmatch(path.name))
    ]
