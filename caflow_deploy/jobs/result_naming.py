"""Names, formats and quality of the files that results of images are written to."""

from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from caflow_deploy.images.file_search import SUFFIXES
from caflow_runtime.errors import InputError
from caflow_runtime.option_fields import Options

SOURCE: Literal["source"] = "source"
"""Value of `ResultFiles.format`: each result has the format of its source."""
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tiff", "bmp": ".bmp"}
MAX_SUFFIX_CHARACTERS = 64
SAME = {".jpeg": ".jpg", ".tif": ".tiff"}
"""Alternative suffixes of these formats."""


class ResultFiles(Options, frozen=True):
    """Files that are written for each image."""

    format: Literal["source", "png", "jpg", "webp", "tiff", "bmp"] = SOURCE
    """In a folder: format of the results. source is the format of each input, or PNG if that format can only be read.
    For standard output, source is PNG."""
    quality: Annotated[int, Meta(ge=1, le=100)] | None = None
    """Quality of JPEG and WebP files. Higher values give better and larger files; 100 makes WebP lossless. By default
    95."""
    suffix: str = ""
    """In a folder: text to insert before the extension of each result's name, such as -x4."""
    metadata: bool = True
    """Copy EXIF, XMP, IPTC and the resolution. The colour profile is always copied, because colours would change
    without it. A result that cannot have the colour space of its source gives a warning."""
    keep_all: bool = False
    """Also write the other samples, as NAME-2.png, NAME-3.png …, in order of rank."""
    sheet: bool = False
    """Also write NAME-sheet.png: the input, all samples with their likelihoods, and the uncertainty map."""
    maps: bool = False
    """Also write maps of where the result is unlikely, NAME-likelihood.png and one for each level, and of where the
    samples differ, NAME-uncertainty.png."""
    suggest_hints: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Colorization with hints only: also write NAME-suggested.png, the result with rings around this number of places,
    where further hints would help most; small images have fewer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        text = self.suffix
        if len(text) > MAX_SUFFIX_CHARACTERS or not text.isprintable() or {"/", "\\"} & set(text):
            raise InputError(
                f"suffix must be at most {MAX_SUFFIX_CHARACTERS} printable characters, such as -x4, without / and \\; "
                f"got {text!r}"
            )

    def ending(self, source: Path) -> str:
        """Return the file suffix of a source's result. Sources whose format cannot be written become PNG files."""
        if self.format != SOURCE:
            return FORMATS[self.format]
        return source.suffix if source.suffix.lower() in SUFFIXES else FORMATS["png"]

    def is_native(self, source: Path) -> bool:
        """Return whether the result has the format of its source."""
        own, wanted = (SAME.get(suffix.lower(), suffix.lower()) for suffix in (source.suffix, self.ending(source)))
        return own == wanted

    def names(self, source: Path, name: Path) -> Iterator[Path]:
        """Yield names for a result, in order of preference and without end.

        The first is the name of the source. The next ones add the suffix of the source, if it differs from the
        result's; then the name of the source's folder; then numbers from 2.

        Arguments:
            name: path of the source relative to the input folder.
        """
        kind = [] if self.is_native(source) else [f"{name.stem}-{source.suffix[1:].lower()}"]
        stems = [name.stem, *kind, f"{name.stem}-{source.absolute().parent.name}"]
        numbered = (f"{stems[1]}-{k}" for k in count(2))
        return (name.with_name(f"{stem}{self.suffix}{self.ending(source)}") for stem in chain(stems, numbered))


DEFAULT = ResultFiles()
