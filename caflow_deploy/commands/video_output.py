"""Checks of the output of `caflow video`, before any work is done."""

from pathlib import Path

from caflow_deploy.commands.pipes import is_pipe
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.video.numbered import is_numbered, numbered, numbers_of


def check_times(output: Path | None, streaming: StreamSettings) -> None:
    """Check that frames are dropped only if the output stores presentation times.

    Raises:
        InputError: if they are dropped otherwise.
    """
    if streaming.untypical == "drop" and output is not None and (is_pipe(output) or is_numbered(output)):
        raise InputError(
            "--untypical drop does not work with this -o: it stores no frame times, so later frames would be shown too "
            "early; give --untypical mark or bicubic"
        )


def check_overwriting(output: Path, source: str, overwrites: bool) -> None:
    """Check that no file is overwritten or removed without permission, and never the input.

    Raises:
        InputError: if one would be.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder; give the name of a file as -o")
    given = Path(source)
    results = _on_disk(output, is_numbered(output))
    if results & _on_disk(given, is_numbered(given) and not given.exists()):
        raise InputError(f"{output} is the input file, or one of its images; choose another -o")
    if results and not overwrites:
        raise InputError(f"{output} already exists; use --force to overwrite it, or choose another -o")


def _on_disk(path: Path, is_pattern: bool) -> set[tuple[int, int]]:
    """Return the device and number of a file if it exists, or of all existing images of a pattern."""
    files = [numbered(path, number) for number in numbers_of(path)] if is_pattern else [path]
    found = [file.stat() for file in files if file.exists()]
    return {(one.st_dev, one.st_ino) for one in found}
