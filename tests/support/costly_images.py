"""Small image files that would take long or much memory to decode."""

import io
import struct
import zlib

import numpy as np
import PIL.Image

from caflow_deploy.images.image_headers import JPEG_END, START_OF_SCAN


def progressive(scans: int, side: int) -> bytes:
    """Return a grey JPEG with this number of scans and more. The last one is repeated."""
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((side, side), 99, np.uint8)).save(file, "JPEG", progressive=True)
    contents = file.getvalue()
    last, end = contents.rindex(START_OF_SCAN), contents.rindex(JPEG_END)
    return contents[:end] + contents[last:end] * scans + JPEG_END


def with_texts(kind: bytes, texts: int) -> bytes:
    """Return a PNG of 8×8 pixels with compressed texts of 1 MB each."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (1, 2, 3)).save(file, "PNG")
    data = kind + {b"zTXt": b"k\0\0", b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0"}[kind] + zlib.compress(b"a" * 10**6)
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return file.getvalue()[:33] + chunk * texts + file.getvalue()[33:]


def avif_with_exif(exif: bytes) -> bytes:
    """Return an AVIF of 16×16 pixels with this EXIF, which Pillow would read and change before it writes it."""
    file, place = io.BytesIO(), (b"II*\0\x08\0\0\0" + bytes(6)).ljust(len(exif), b"\1")
    PIL.Image.new("RGB", (16, 16)).save(file, "AVIF", exif=place)
    return file.getvalue().replace(place, exif)
