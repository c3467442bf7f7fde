"""Pictures that show when they were made: 32 bright or dark columns, the bits of `time.monotonic` in milliseconds."""

import time
from typing import Any

BITS = 32
DARK, BRIGHT = 40, 200


def stamped_row(width: int) -> bytes:
    """The luma of every row of a picture that is made now."""
    milliseconds = int(1000 * time.monotonic()) % 2**BITS
    return bytes(BRIGHT if milliseconds >> (BITS - 1 - x * BITS // width) & 1 else DARK for x in range(width))


def read_stamp(image: Any) -> float:
    """When (H, W, 3) uint8 was made, in seconds of `time.monotonic`."""
    height, width, _ = image.shape
    middles = [(2 * k + 1) * width // (2 * BITS) for k in range(BITS)]
    bits = [int(image[height // 2, x].mean() > (DARK + BRIGHT) / 2) for x in middles]
    return sum(bit << (BITS - 1 - k) for k, bit in enumerate(bits)) / 1000
