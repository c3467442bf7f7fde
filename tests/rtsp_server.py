"""An RTSP server of stamped frames on the loopback address.

Run it with a Python that has GStreamer's `gi`, such as Debian's own. `--check` only reports missing elements.

python3 rtsp_server.py --check
python3 rtsp_server.py PORT WIDTH HEIGHT RATE
"""

import sys

import gi
from stamp import stamped_row

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

GREY = 128
ELEMENTS = ("appsrc", "x264enc", "rtph264pay")


class Stamped(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    """H.264 stream of stamped frames."""

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

    def configure(self, factory: object, media: "GstRtspServer.RTSPMedia") -> None:
        """Start to send frames, because a client has connected."""
        source = media.get_element().get_child_by_name("frames")
        GLib.timeout_add(1000 // self.rate, self.push, source)

    def push(self, source: "Gst.Element") -> bool:
        """Send one frame. Return False, which stops the timer, if no client accepts the frame."""
        frame = stamped_row(self.width) * self.height + bytes([GREY]) * (self.width * self.height // 2)
        return bool(source.emit("push-buffer", Gst.Buffer.new_wrapped(frame)) == Gst.FlowReturn.OK)


def main() -> None:
    """Serve until killed."""
    Gst.init(None)
    missing = [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]
    if missing:
        sys.exit(f"GStreamer lacks {', '.join(missing)}")
    if sys.argv[1:] == ["--check"]:
        return
    port, width, height, rate = map(int, sys.argv[1:])
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    server.get_mount_points().add_factory("/live", Stamped(width, height, rate))
    server.attach(None)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
