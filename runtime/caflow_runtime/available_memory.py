"""Memory of this process and of its machine, as Linux knows it: what is used, and what can still be had.

A process may be given less than its machine has: by a control group, as containers and batch systems do it, or by
`ulimit -v`. On other systems than Linux nothing of this is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, CONTROL_GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Available:
    """Memory that can still be had."""

    bytes: int
    limited_by: str
    """For people."""


@dataclass(frozen=True)
class _GroupFiles:
    """Where a version of control groups keeps its figures."""

    folder: str
    limit: str
    used: str
    cache: str
    """That part of what is used which is freed when memory is short."""


VERSION_1 = _GroupFiles("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = _GroupFiles("", "memory.max", "memory.current", "inactive_file")


def available_memory() -> Available | None:
    """What this process can have: the least that the machine, its control groups and `ulimit -v` leave; None where that
    is unknown."""
    found = [*_of_machine(), *_of_control_groups(), *_of_address_space()]
    return min(found, key=lambda one: one.bytes, default=None)


def memory_of_all() -> Available | None:
    """What several processes like this one can have together; None where that is unknown."""
    return min([*_of_machine(), *_of_control_groups()], key=lambda one: one.bytes, default=None)


def readable(count: float) -> str:
    """Bytes for people, such as 1.32 GB or 250 MB."""
    if count < 0.9995e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.2f} GB" if count < 9.995e9 else f"{count / 1e9:.1f} GB"


def resident_memory() -> int | None:
    """Bytes of memory that this process has now; None where that is unknown."""
    return _fields(PROC / "self" / "status").get("VmRSS")


def peak_memory() -> int | None:
    """The most bytes of memory that this process has had; None where that is unknown."""
    return _fields(PROC / "self" / "status").get("VmHWM")


def _of_machine() -> Iterator[Available]:
    fields = _fields(PROC / "meminfo")
    if "MemAvailable" in fields:
        yield Available(fields["MemAvailable"] + fields.get("SwapFree", 0), "the machine's free memory")


def _of_control_groups() -> Iterator[Available]:
    """Of the group that this process is in, and of all groups around that."""
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        files = VERSION_1 if controllers else VERSION_2
        root = CONTROL_GROUPS / files.folder
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            yield from _of_group(folder, files)
            if folder == root:  # in a container this is its own group, and what `path` names may not be there
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
    """Those that are in kB, in bytes."""
    words = (line.split() for line in _text(path).splitlines())
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in words if line[2:] == ["kB"]}


def _text(path: Path) -> str:
    """Empty where there is no such file."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
