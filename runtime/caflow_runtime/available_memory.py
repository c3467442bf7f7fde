"""Memory of this process and of its machine, as Linux reports it: used memory and available memory.

A process may be limited to less than the machine has: by a control group, as containers and batch systems use, or by
`ulimit -v`. On systems other than Linux all results are unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, CONTROL_GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Available:
    """Available memory."""

    bytes: int
    limited_by: str
    """The limit that determines `bytes`, for people."""


@dataclass(frozen=True)
class _GroupFiles:
    """File and field names of one version of control groups."""

    folder: str
    limit: str
    used: str
    cache: str
    """Field with the part of the used memory that is freed when memory is short."""


VERSION_1 = _GroupFiles("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = _GroupFiles("", "memory.max", "memory.current", "inactive_file")


def available_memory() -> Available | None:
    """Return the memory that is available to this process, or None if unknown.

    This is the smallest amount that the machine, the control groups and `ulimit -v` leave.
    """
    found = [*_of_machine(), *_of_control_groups(), *_of_address_space()]
    return min(found, key=lambda one: one.bytes, default=None)


def memory_of_all() -> Available | None:
    """Return the memory that is available to several processes like this one together, or None if unknown."""
    return min([*_of_machine(), *_of_control_groups()], key=lambda one: one.bytes, default=None)


def readable(count: float) -> str:
    """Return a number of bytes for people, such as 1.32 GB or 250 MB."""
    if count < 0.9995e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.2f} GB" if count < 9.995e9 else f"{count / 1e9:.1f} GB"


def resident_memory() -> int | None:
    """Return the resident memory of this process in bytes, or None if unknown."""
    return _fields(PROC / "self" / "status").get("VmRSS")


def peak_memory() -> int | None:
    """Return the peak resident memory of this process in bytes, or None if unknown."""
    return _fields(PROC / "self" / "status").get("VmHWM")


def _of_machine() -> Iterator[Available]:
    fields = _fields(PROC / "meminfo")
    if "MemAvailable" in fields:
        yield Available(fields["MemAvailable"] + fields.get("SwapFree", 0), "the machine's free memory")


def _of_control_groups() -> Iterator[Available]:
    """Yield the available memory of this process's control group and of all enclosing groups."""
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        files = VERSION_1 if controllers else VERSION_2
        root = CONTROL_GROUPS / files.folder
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            yield from _of_group(folder, files)
            if folder == root:  # in a container, the root is the container's own group, and `path` may not exist in it
                break


def _of_group(folder: Path, files: _GroupFiles) -> Iterator[Available]:
    limit, used = (_text(folder / name).strip() for name in (files.limit, files.used))
    if limit.isdigit() and used.isdigit():
        cache = dict(line.split() for line in _text(folder / "memory.stat").splitlines()).get(files.cache, "0")
        yield Available(max(0, int(limit) - int(used) + int(cache)), "the limit of the control group (container)")


def _of_address_space() -> Iterator[Available]:
    for line in _text(PROC / "self" / "limits").splitlines():
        if line.startswith("Max address space"):
            limit = line.removeprefix("Max address space").split()[0]
            if limit.isdigit():
                used = _fields(PROC / "self" / "status").get("VmSize", 0)
                yield Available(max(0, int(limit) - used), "ulimit -v")


def _fields(path: Path) -> dict[str, int]:
    """Return the fields of a file that are given in kB, converted to bytes."""
    words = (line.split() for line in _text(path).splitlines())
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in words if line[2:] == ["kB"]}


def _text(path: Path) -> str:
    """Return the text of a file, or "" if it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
