"""The input that a visitor paints over."""

from pathlib import Path
from typing import Any

import gradio
import numpy as np
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorData

from caflow_deploy.images.image_files import decode_image
from caflow_deploy.images.image_headers import PNG_START
from caflow_deploy.page.page_sampler import MAX_PAGE_PIXELS
from caflow_runtime.errors import UnreadableImage
from caflow_runtime.image_arrays import Image

FIRST_LAYER = ("layer", "0")
PAINTING = Path("painting.png")
"""Name of a painting in messages."""
MAX_BYTES = 2**26
"""Largest file of a painting, in bytes. A larger one counts as if nothing was painted."""
MAX_WAITING = 16
"""Largest number of paintings that have arrived and are not used yet. The oldest one is dropped."""


def painting_editor(**options: Any) -> gradio.ImageEditor:
    """Return an editor whose value is the file of its first layer, a PNG, as bytes; None if nothing was painted.

    Gradio itself opens everything that is posted, in any format that Pillow decodes, of any size. A class of our own
    would make it write a file beside this module, so two methods of the editor are replaced.
    """
    editor = gradio.ImageEditor(**options)
    waiting: dict[str, bytes] = {}

    @server  # type: ignore[untyped-decorator]
    def accept_blobs(data: AcceptBlobs) -> None:
        given = data.data
        is_first = (given["type"], str(given["index"])) == FIRST_LAYER
        if is_first and len(data.files[0][1]) <= MAX_BYTES:
            while len(waiting) >= MAX_WAITING:
                waiting.pop(next(iter(waiting)))
            waiting[given["id"]] = data.files[0][1]

    def preprocess(payload: EditorData | None) -> bytes | None:
        if payload is None:
            return None
        if payload.id is not None:
            return waiting.pop(payload.id, None)
        return Path(payload.layers[0].path).read_bytes() if payload.layers else None

    editor.accept_blobs, editor.preprocess = accept_blobs, preprocess  # type: ignore[method-assign, assignment]
    return editor


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
