"""Memory of the fake GPU, and memory of the host that it can copy from and to.

Addresses of the device are ones that the host cannot read, and are never given twice. What is not yet written, and what
is freed, holds bytes that are NaN as floats.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fake_gpu.calls import misuse

FIRST_ADDRESS, GAP, ALIGNMENT = 0x0200_0000_0000_0000, 4096, 512
POISON = 0xFF
CAPACITY = 2**32

Bytes = NDArray[np.uint8]


class OutOfMemory(Exception):
    """The fake GPU has no room left."""


@dataclass
class Allocation:
    """A piece of device or pinned memory."""

    address: int
    contents: Bytes
    generation: int
    """Of the fake GPU: those before the last reset count no more."""
    state: Literal["queued", "live", "freed"] = "queued"
    """queued: the stream that it was allocated on has not come to it yet."""

    @property
    def size(self) -> int:
        return self.contents.size


class Memory:
    """All allocations, and who holds how much: buffers, the pool that keeps what they freed, and TensorRT."""

    def __init__(self) -> None:
        self.generation = 0
        self.reset()

    def reset(self, capacity: int = CAPACITY) -> None:
        self.generation += 1
        self.capacity = capacity
        self.in_use = self.reserved = self.engines = 0
        """Bytes of buffers; bytes of the pool, with those of buffers; and bytes that TensorRT takes for itself."""
        self._allocations: list[Allocation] = []
        self._pinned: dict[int, Allocation] = {}

    @property
    def pinned(self) -> int:
        """How many pieces of the host's memory are pinned."""
        return len(self._pinned)

    def allocate(self, size: int) -> Allocation:
        """From the pool, which grows if it must.

        Raises:
            OutOfMemory
        """
        grown = max(self.reserved, self.in_use + _rounded(size))
        if grown + self.engines > self.capacity:
            raise OutOfMemory
        self.in_use, self.reserved = self.in_use + _rounded(size), grown
        last = self._allocations[-1] if self._allocations else None
        address = FIRST_ADDRESS if last is None else last.address + _rounded(last.size) + GAP
        made = Allocation(address, np.full(size, POISON, np.uint8), self.generation)
        self._allocations.append(made)
        return made

    def free(self, allocation: Allocation) -> None:
        """Back to the pool."""
        if allocation.state == "freed":
            misuse(f"memory at {allocation.address:#x} is freed twice")
        allocation.state = "freed"
        allocation.contents = np.full(allocation.size, POISON, np.uint8)
        if allocation.generation == self.generation:
            self.in_use -= _rounded(allocation.size)

    def trim(self, keep: int) -> None:
        """Give what the pool keeps to others."""
        self.reserved = max(self.in_use, keep)

    def take_for_engines(self, size: int) -> int:
        """Outside of the pool. Returns the generation, for `free_of_engines`.

        Raises:
            OutOfMemory
        """
        if self.reserved + self.engines + size > self.capacity:
            raise OutOfMemory
        self.engines += size
        return self.generation

    def free_of_engines(self, size: int, generation: int) -> None:
        if generation == self.generation:
            self.engines -= size

    def pin(self, size: int) -> Allocation:
        """Memory of the host, at its real address."""
        contents = np.full(size, POISON, np.uint8)
        made = Allocation(contents.ctypes.data, contents, self.generation, "live")
        self._pinned[made.address] = made
        return made

    def unpin(self, allocation: Allocation) -> None:
        if allocation.generation == self.generation:
            del self._pinned[allocation.address]

    def check(self, address: int, size: int, is_live: bool = False) -> Bytes:
        """The bytes at an address.

        Arguments:
            is_live: they are read or written now, not only later by a stream.

        Raises:
            Misuse: if they are not all of one allocation that is there.
        """
        found = self._find(address)
        if found is None or address + size > found.address + found.size:
            misuse(f"{size} bytes at {address:#x} are not inside of any allocation")
        if found.state == "freed":
            misuse(f"memory at {address:#x} is used after it was freed")
        if is_live and found.state == "queued":
            misuse(f"memory at {address:#x} is used before the stream that allocates it has come to that")
        return found.contents[address - found.address :][:size]

    def array(self, address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """What is at an address now, as an array; writing to it writes there."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        found: NDArray[Any] = self.check(address, size, is_live=True).view(dtype).reshape(shape)
        return found

    def is_of_device(self, address: int) -> bool:
        return address >= FIRST_ADDRESS

    def _find(self, address: int) -> Allocation | None:
        if not self.is_of_device(address):
            return next((one for one in self._pinned.values() if 0 <= address - one.address < one.size), None)
        place = bisect_right(self._allocations, address, key=lambda one: one.address) - 1
        return self._allocations[place] if place >= 0 else None


def _rounded(size: int) -> int:
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT


MEMORY = Memory()
