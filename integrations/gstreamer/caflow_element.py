"""GStreamer element `caflow`, which enlarges the frames of a pipeline with a model."""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")

import numpy as np  # noqa: E402  (after the versions are chosen)
from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from caflow_runtime.bundle.builtin import DEFAULT  # noqa: E402
from caflow_runtime.errors import CaflowError  # noqa: E402
from caflow_runtime.pipeline.pipeline import Pipeline, load  # noqa: E402

CAPS = Gst.Caps.from_string("video/x-raw,format=RGB,width=[1,2147483647],height=[1,2147483647]")
ANY_SIDE = Gst.IntRange(range(1, 2**31 - 1))
LARGEST_SEED = 2**32 - 1


class Caflow(GstBase.BaseTransform):  # type: ignore[misc]
    """Element that draws one sample of each frame, all with the same noise, so that static content does not flicker."""

    __gstmetadata__ = ("CAFLOW", "Filter/Effect/Video", "Enlarges frames with a conditional flow", "caflow-deploy")
    __gsttemplates__ = (
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, CAPS),
        Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, CAPS),
    )

    model = GObject.Property(type=str, default=DEFAULT, blurb="Model to use: a bundle's folder, or a built-in name")
    backend = GObject.Property(type=str, default="auto", blurb="auto, cpu, cuda, tensorrt, tensorrt-rtx or openvino")
    temperature = GObject.Property(
        type=float,
        default=-1.0,
        minimum=-1.0,
        maximum=100.0,
        blurb="Spread of the samples: 0 is smooth, −1 the model's own",
    )
    seed = GObject.Property(
        type=GObject.TYPE_UINT, default=0, minimum=0, maximum=LARGEST_SEED, blurb="Number that chooses the noise"
    )
    threads = GObject.Property(
        type=GObject.TYPE_UINT, default=0, minimum=0, maximum=1024, blurb="CPU threads; 0 is one per core"
    )

    def __init__(self) -> None:
        super().__init__()
        self._pipe: Pipeline | None = None
        self._given: GstVideo.VideoInfo | None = None
        self._made: GstVideo.VideoInfo | None = None

    def do_start(self) -> bool:
        """Open the model. A failure is reported as an error of the element."""
        try:
            self._pipe = load(self.model, self.backend, self.threads)
        except CaflowError as error:
            self._fail(error)
            return False
        return True

    def do_stop(self) -> bool:
        """Close the model."""
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = None
        return True

    def do_transform_caps(self, direction: Gst.PadDirection, caps: Gst.Caps, wanted: Gst.Caps | None) -> Gst.Caps:
        """Return the caps that the other pad may have: sizes are multiplied or divided by the scale of the model."""
        found = Gst.Caps.new_empty()
        for k in range(caps.get_size()):
            with caps.get_structure(k) as structure:
                other = structure.copy()
            if all(self._turn_side(other, name, direction) for name in ("width", "height")):
                found.append_structure(other)
        return found if wanted is None else wanted.intersect_full(found, Gst.CapsIntersectMode.FIRST)

    def do_set_caps(self, given: Gst.Caps, made: Gst.Caps) -> bool:
        """Store the memory layouts of input and output frames."""
        self._given = GstVideo.VideoInfo.new_from_caps(given)
        self._made = GstVideo.VideoInfo.new_from_caps(made)
        return True

    def do_get_unit_size(self, caps: Gst.Caps) -> tuple[bool, int]:
        """Return the size of a frame, in bytes."""
        return True, GstVideo.VideoInfo.new_from_caps(caps).size

    def do_transform(self, given: Gst.Buffer, made: Gst.Buffer) -> Gst.FlowReturn:
        """Draw one sample of one frame."""
        assert self._pipe is not None
        try:
            with given.map(Gst.MapFlags.READ) as read, made.map(Gst.MapFlags.WRITE) as written:
                image = np.ascontiguousarray(rows_of(read.data, self._given))
                temperature = None if self.temperature < 0 else self.temperature
                drawn = self._pipe.best_of(image, n=1, temperature=temperature, seed=self.seed)
                rows_of(written.data, self._made)[:] = drawn.images[0]
        except (CaflowError, MemoryError) as error:
            self._fail(error)
            return Gst.FlowReturn.ERROR
        return Gst.FlowReturn.OK

    def _turn_side(self, structure: Gst.Structure, name: str, direction: Gst.PadDirection) -> bool:
        """Replace a side of this pad by that of the other pad. Return False if the other pad has no valid side."""
        is_one, side = structure.get_int(name)
        if not is_one or self._pipe is None:
            structure.set_value(name, ANY_SIDE)
            return True
        scale = self._pipe.manifest.model.scale
        is_given = direction == Gst.PadDirection.SINK
        structure.set_value(name, side * scale if is_given else side // scale)
        return bool(is_given or side % scale == 0)

    def _fail(self, error: Exception) -> None:
        """Post an error on the bus of the pipeline."""
        self.post_message(Gst.Message.new_error(self, GLib.Error(str(error)), type(error).__name__))


def rows_of(data: memoryview, info: GstVideo.VideoInfo) -> NDArray[np.uint8]:
    """Return the pixels of a frame in memory, (H, W, 3), without the padding at the end of its rows."""
    rows = np.frombuffer(data, np.uint8, info.stride[0] * info.height).reshape(info.height, info.stride[0])
    return rows[:, : 3 * info.width].reshape(info.height, info.width, 3)


GObject.type_register(Caflow)
__gstelementfactory__ = ("caflow", Gst.Rank.NONE, Caflow)
