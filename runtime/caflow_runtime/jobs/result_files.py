"""In which files the results of images are written: their names, formats and quality."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from caflow_runtime.image_formats import SUFFIXES

SOURCE = "source"
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tiff", "bmp": ".bmp"}
SAME = {".jpeg": ".jpg", ".tif": ".tiff"}
"""Other suffixes of these formats."""


@dataclass(frozen=True)
class ResultFiles:
    """How results are named and written."""

    format: str = SOURCE
    """In a folder: one of `FORMATS`, or `SOURCE`, that of each source."""
    quality: int | None = None
    """As in `write_image`."""
    suffix: str = ""
    """In a folder: what names have before their ending."""
    no_metadata: bool = False
    """Whether the colour profile alone is kept."""

    def ending(self, source: Path) -> str:
        """Return what the name of a source's result ends in; of what is read and not written, as PNG."""
        if self.format != SOURCE:
            return FORMATS[self.format]
        return source.suffix if source.suffix.lower() in SUFFIXES else FORMATS["png"]

    def is_native(self, source: Path) -> bool:
        """Return whether the result has the format of its source."""
        own, wanted = (SAME.get(suffix.lower(), suffix.lower()) for suffix in (source.suffix, self.ending(source)))
        return own == wanted

    def names(self, source: Path, name: Path) -> Iterator[Path]:
        """Yield names for a result without end: its own, with its source's suffix, with its folder, with numbers.

        Arguments:
            name: of the source, below its folder.
        """
        kind = [] if self.is_native(source) else [f"{name.stem}-{source.suffix[1:].lower()}"]
        stems = [name.stem, *kind, f"{name.stem}-{source.absolute().parent.name}"]
        numbered = (f"{stems[1]}-{k}" for k in count(2))
        return (name.with_name(f"{stem}{self.suffix}{self.ending(source)}") for stem in chain(stems, numbered))


DEFAULT = ResultFiles()
