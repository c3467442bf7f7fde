"""Opening of files and addresses with PyAV."""

import codecs
import re
from pathlib import Path
from typing import Any

from caflow_runtime.extras import import_optional

AS_WINDOWS_1252 = "caflow_runtime.as_windows_1252"
"""Name of the error handler for metadata that is not UTF-8."""
CONTAINERS = (
    "asf,avi,av1,dirac,dv,flv,gif,h261,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,"
    "rm,vc1,vvc,webm,wtv,yuv4mpegpipe,ass,srt,bmp_pipe,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe"
)
"""FFmpeg's names of the formats of files that contain what they show. The last seven are refused with a reason."""
PLAYLISTS = (b"#EXTM3U", b"ffconcat")
"""Starts of playlists for HLS, and of lists of files for FFmpeg."""
QUERY = re.compile("[?#]")
"""Characters that end the host and path of an address."""


def address_of(path: Path | str) -> str:
    """Return what FFmpeg must be given to open a file or an address.

    Paths become absolute: FFmpeg takes a relative name with a colon, such as `12:30.mp4`, for a protocol.
    """
    return str(path.absolute()) if isinstance(path, Path) else path


def is_playlist(path: Path | str) -> bool:
    """Return whether a file is a list of other files, which FFmpeg would open."""
    if not isinstance(path, Path):
        return False
    with path.open("rb") as file:
        return file.read(16).startswith(PLAYLISTS)


def without_secrets(address: str) -> str:
    """Return an address without user name, password and query, for messages and job files.

    Where an @ may belong to a password, more than that is omitted.
    """
    scheme, mark, rest = address.partition("://")
    place, *query = QUERY.split(rest, maxsplit=1)
    return scheme + mark + ("…" if query and "@" in query[0] else place.rpartition("@")[2])


def open_to_read(path: Path | str) -> Any:
    """Open a file or an address with PyAV, and return the container.

    FFmpeg opens no other file: playlists are refused. Tags that are not UTF-8, as in most old files, are read as
    Windows-1252, which includes the printable characters of Latin-1.

    Raises:
        InputError: if PyAV is not installed.
        FFmpegError: if the address cannot be opened.
    """
    codecs.register_error(AS_WINDOWS_1252, _as_windows_1252)
    address = address_of(path)
    is_file = Path(address).is_absolute()  # the text of an address is not
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS} if is_file else {}
    return import_av().open(address, options=options, metadata_errors=AS_WINDOWS_1252)


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Return the text that replaces bytes that are not UTF-8, and the position at which decoding continues."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("windows-1252", "replace"), error.end


def import_av() -> Any:
    """Return the module `av` of PyAV.

    Raises:
        InputError: if PyAV is not installed.
    """
    return import_optional("av", "videos require PyAV", "caflow-deploy[video]")


def accurate_conversion() -> Any:
    """Return how FFmpeg is to convert between YUV and RGB: with rounding, and with chroma of the full width.

    By default it truncates, so that pictures become darker by a grey level, and repeats chroma from pixel to pixel.
    """
    ways = import_av().video.reformatter.Interpolation
    return ways.BICUBIC | ways.ACCURATE_RND | ways.FULL_CHR_H_INT
