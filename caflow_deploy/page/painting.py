"""The input that a visitor paints over."""

from pathlib import Path
from typing import Any

import gradio
import numpy as np
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorData, EditorDataBlobs
from gradio.data_classes import FileData

from caflow_deploy.images.image_files import decode_image
from caflow_deploy.images.image_headers import PNG_START
from caflow_deploy.page.page_results import MAX_PAGE_PIXELS
from caflow_runtime.errors import UnreadableImage
from caflow_runtime.image_arrays import Image

FIRST_LAYER = ("layer", "0")
PAINTING = Path("painting.png")
"""Name of what is painted in messages."""
MAX_WAITING = 16
"""Largest number of paintings that have arrived and are not used yet. The oldest one is dropped."""


class Painting(gradio.ImageEditor):
    """Editor whose value is the file of its first layer, a PNG.

    Gradio itself opens everything that is posted, in any format that Pillow decodes, of any size.
    """

    is_template = True

    def preprocess(self, payload: EditorData | None) -> bytes | None:  # type: ignore[override]
        """Return the file of the first layer; None if nothing was painted."""
        stored: Any = payload
        if payload is not None and payload.id is not None:
            stored = self.blob_storage.pop(payload.id, None)
        layer = next(iter(stored.layers or []), None) if stored is not None else None
        return Path(layer.path).read_bytes() if isinstance(layer, FileData) else layer

    @server  # type: ignore[untyped-decorator]
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """Keep the first layer of a painting until the painting is used."""
        given = data.data
        if (given["type"], str(given["index"])) == FIRST_LAYER:
            while len(self.blob_storage) >= MAX_WAITING:
                self.blob_storage.pop(next(iter(self.blob_storage)))
            self.blob_storage[given["id"]] = EditorDataBlobs(background=None, layers=[data.files[0][1]], composite=None)


def read_painting(contents: bytes | None) -> Image | None:
    """Return what a visitor painted, (H, W, 4) uint8 RGBA; None if nothing was painted.

    Raises:
        UnreadableImage: if the file is no PNG with alpha, or is too large for the page.
    """
    if contents is None:
        return None
    if not contents.startswith(PNG_START):
        raise UnreadableImage(PAINTING, "expected a PNG")
    found = decode_image(contents, PAINTING, MAX_PAGE_PIXELS)
    if found.alpha is None:
        raise UnreadableImage(PAINTING, "expected a PNG with a transparent part")
    return np.dstack([found.rgb, found.alpha])
