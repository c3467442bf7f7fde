"""An RTSP server on loopback whose every frame shows when it was made. Run by a Python that has GStreamer's `gi`.

    python3 rtsp_server.py PORT WIDTH HEIGHT RATE

A frame is 32 bright or dark columns: the bits of `time.monotonic` in milliseconds, the highest first.
"""

import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

BITS = 32
DARK, BRIGHT, GREY = 40, 200, 128


class Stamped(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    """H.264 of stamped frames."""

    def __init__(self, width: int, height: int, rate: int) -> None:
        super().__init__()
        self.width, self.height, self.rate = width, height, rate
        caps = f"video/x-raw,format=I420,width={width},height={height},framerate={rate}/1"
        self.set_launch(
            f"( appsrc name=frames is-live=true format=time do-timestamp=true caps={caps} ! "
            f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={rate} ! rtph264pay name=pay0 pt=96 )"
        )
        self.set_shared(True)
        self.connect("media-configure", self.configure)

    def configure(self, factory: object, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_child_by_name("frames")
        GLib.timeout_add(1000 // self.rate, self.push, source)

    def push(self, source: Gst.Element) -> bool:
        stamp = int(1000 * time.monotonic()) % 2**BITS
        bits = [BRIGHT if stamp >> (BITS - 1 - k) & 1 else DARK for k in range(BITS)]
        row = bytes(bits[x * BITS // self.width] for x in range(self.width))
        frame = row * self.height + bytes([GREY]) * (self.width * self.height // 2)
        return bool(source.emit("push-buffer", Gst.Buffer.new_wrapped(frame)) == Gst.FlowReturn.OK)


def main() -> None:
    """Serve until killed."""
    port, width, height, rate = map(int, sys.argv[1:])
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    server.get_mount_points().add_factory("/live", Stamped(width, height, rate))
    server.attach(None)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
