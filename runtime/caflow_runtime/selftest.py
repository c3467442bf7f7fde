"""What must hold of any flow, asked of its graphs alone: no other model of images can test itself like this."""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caflow_runtime import scan
from caflow_runtime.scan import Array, Graph

Kind = Literal["noise", "density", "rows"]


def flow_errors(
    graphs: Mapping[str, Graph],
    levels: int,
    condition: NDArray[np.uint8],
    image: NDArray[np.int64],
    noise: list[Array],
    is_invertible: bool = True,
) -> Iterator[tuple[Kind, str, Array]]:
    """Errors of a flow whose graphs take and give numpy arrays: what kind, of what, and how large.

    Noise comes back from decode and likelihood; the density of the sampling path is the scoring path's (relative);
    identical rows give identical pixels, and a row alone gives what it does in a batch (shares of full scale).

    Arguments:
        condition, image, noise: as `scan.encode` and `scan.sample` take them, at least two rows.
        is_invertible: False leaves out the first two, for imported models, whose way back is not quite an inverse.
    """
    encoded = scan.encode(graphs, condition)
    drawn = scan.sample(graphs, levels, encoded, image, noise)
    if is_invertible:
        scored = scan.score(graphs, levels, encoded, image, drawn.pixels)
        for j, (sent, returned) in enumerate(zip(noise, scored.noise, strict=True)):
            yield "noise", f"noise of level {j} after decode and likelihood", sent - returned
        total = drawn.log_likelihood.sum(1)
        error = (scored.log_likelihood.sum(1) - total) / total
        yield "density", "density: sampling against scoring, relative", error
    same = [np.repeat(z[:1], len(image), 0) for z in noise]
    alike = scan.sample(graphs, levels, encoded, np.zeros_like(image), same).pixels
    yield "rows", "identical rows, pixels", (alike - alike[:1]) / 256
    alone = scan.sample(graphs, levels, encoded, image[1:2], [z[1:2] for z in noise]).pixels
    yield "rows", "a row alone and in a batch, pixels", (alone - drawn.pixels[1:2]) / 256
