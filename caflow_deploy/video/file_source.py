"""Source that reads a video file. PyAV decodes it, as it keeps times and colours."""

import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from caflow_deploy.video.declared_size import declared_size
from caflow_deploy.video.frame_source import (
    BT601,
    BT709,
    CLOCK,
    HD_LINES,
    LIMITED_RANGE,
    MAX_FRAME_PIXELS,
    RGB_MATRIX,
    TAGS,
    UNSPECIFIED,
    TimedFrame,
    UnreadableVideo,
    VideoInfo,
)
from caflow_deploy.video.opening import address_of, import_av, is_playlist, open_to_read, without_secrets
from caflow_deploy.video.rotation import Upright, has_alpha, is_on_its_side
from caflow_deploy.video.side_data import PQ, x265_hdr10
from caflow_deploy.video.timestamps import is_restarting, steady
from caflow_deploy.video.transparency import framed, split_alpha
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image

SOUGHT_BY_DTS = ("mpegts", "mpeg")
"""Containers without an index, in which FFmpeg seeks by decoding timestamps, not by presentation timestamps."""
MATROSKA_DURATION = "DURATION"
"""Tag of each stream in Matroska."""
DURATION = re.compile(r"(\d{1,6}):(\d{2}):(\d{2}(?:\.\d{1,12})?)")
"""Value of `MATROSKA_DURATION`."""
CUT_OFF_S = Fraction(1, 4)
"""Tolerance in seconds. A file whose picture ends earlier than this before the container's duration is incomplete."""
PICTURE_FORMAT, PICTURE_FORMATS = "image2", "_pipe"
"""FFmpeg's name of the format of an image file with a known suffix, and the ending of its names for all others."""
PICTURE_BRANDS = {"avif", "heic", "heix", "mif1"}
"""Brands of still images in AVIF and HEIC files, which FFmpeg opens as MP4."""
INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers whose index leads to a frame at, or before, a given time."""
SOUGHT_EARLIER_S = 10
"""Seconds to seek before the first frame to read: frames right after a key frame may depend on frames before it."""


class FileSource:
    """Source that reads a video file, which may be on a server."""

    def __init__(self, path: Path | str, keeps_alpha: bool = False) -> None:
        """Open a video file.

        Arguments:
            path: path of a file, or an address as text.
            keeps_alpha: yield RGBA frames if the pixel format has alpha. Otherwise their background is white.

        Raises:
            InputError, UnreadableVideo
        """
        av = import_av()
        if isinstance(path, Path) and path.is_dir():
            raise InputError(
                f"{path} is a folder; expected a video file: give the videos in it one by one, or numbered pictures by "
                f"their pattern, such as {path}/%05d.png"
            )
        if isinstance(path, Path) and not path.is_file():
            raise InputError(f"{path}: there is no such file")
        self.name = str(path) if isinstance(path, Path) else without_secrets(path)
        self.along: str | None = address_of(path)
        self.path = path if isinstance(path, Path) else None
        self._closed = False
        self.drops = False
        self._upright = Upright()
        try:
            self.container = open_to_read(path)
        except av.FFmpegError as error:
            if is_playlist(path):
                raise InputError(
                    f"{self.name} is a list of other files, and they might change while a job is stopped; join "
                    "them first: ffmpeg -i LIST -c copy OUT.mkv"
                ) from None
            raise UnreadableVideo(
                f"{self.name} cannot be read as a video: FFmpeg tried to open it and reports: {error.strerror}; check "
                "that it is complete, and that a player shows it"
            ) from None
        if self._is_picture():
            raise InputError(
                f"{self.name} is a picture, not a video; give it to caflow image, or give the pattern of numbered "
                "pictures, such as frames/%05d.png"
            )
        if not self.container.streams.video:
            raise UnreadableVideo(f"{self.name}: expected a video; it contains no pictures")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            raise UnreadableVideo(f"{self.name}: FFmpeg does not know the codec of its pictures")
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        self.ended_early: str | None = None
        context = self.stream.codec_context
        # Most programs that write raw pixels leave their alpha at 0.
        self._has_alpha = context.format is not None and has_alpha(context.format) and context.name != "rawvideo"
        self.info = self._info(keeps_alpha)
        self._is_sought = False
        self._keys: deque[tuple[int, int]] = deque()
        """Ticks and time to seek to: of the key frame at or before the current frame, and of later key frames."""

    def seek(self, time: int) -> None:
        """Make `frames` start with a key frame at, or shortly before, the frame whose `TimedFrame.seek` is `time`.

        Which frame comes first depends on the container, so the caller must check its ticks.

        Raises:
            UnreadableVideo: if the container cannot be sought in.
        """
        self._is_sought = True
        try:
            self.container.seek(time, stream=self.stream)
        except import_av().FFmpegError as error:
            raise UnreadableVideo(f"{self.name}: seeking in the file failed: {error.strerror}") from None

    def seek_before(self, ticks: int) -> None:
        """Make `frames` start some seconds before a time, so that all frames from that time on are decoded correctly.

        Do nothing for a container without a suitable index: `frames` then starts at the beginning.

        Raises:
            UnreadableVideo: if the container cannot be sought in.
        """
        time = ticks * CLOCK - SOUGHT_EARLIER_S
        if self.container.format.name in INDEXED and time > self.info.origin * CLOCK:
            self.seek(int(time / self.stream.time_base))

    def frames(self) -> Iterator[TimedFrame]:
        """Yield all frames. If the file is damaged or incomplete, report it in `ended_early`.

        Pictures that can only be decoded with errors are yielded as they are; where nothing can be decoded, stop.

        Raises:
            UnreadableVideo: if no frame can be decoded.
        """
        av = import_av()
        last: int | None = None
        longest, end, has_pts = 0, Fraction(0), True
        step = round(1 / (self.info.rate * CLOCK))
        should = self.end()
        damaged: int | None = None
        try:
            for frame, is_damaged in self._decoded():
                if self._closed:
                    return
                base = Fraction(frame.time_base or self.stream.time_base)
                # Raw H.264 has no timestamps. In AVI, B-frames have wrong presentation but right decoding timestamps.
                has_pts = has_pts and frame.pts is not None and (last is None or frame.pts * base > last * CLOCK)
                said = frame.pts if has_pts else frame.dts
                ticks = None if said is None else round(said * base / CLOCK)
                if last is None:
                    last = self.info.origin if ticks is None else ticks
                else:
                    next_ticks = last + step if ticks is None else max(last + 1, ticks)
                    longest, last = max(longest, next_ticks - last), next_ticks
                end = last * CLOCK + (frame.duration or 0) * base
                if is_damaged and damaged is None:
                    damaged = last
                key = self._key(last)
                yield TimedFrame(self._image(frame), last, time.monotonic(), key if has_pts else None)
        except av.FFmpegError as error:
            shown = 0 if last is None else last - self.info.origin
            self.ended_early = (
                f"{self.name} is damaged after {float(shown * CLOCK):.2f} s: FFmpeg cannot decode the next frame "
                f"({error.strerror}); use an undamaged copy of it, if there is one"
            )
        finally:
            self.container.close()
        if last is None:
            raise UnreadableVideo(f"{self.name}: expected a video; none of its frames can be decoded")
        is_exact = MATROSKA_DURATION in self.stream.metadata  # it includes the last frame
        tolerance = max(0 if is_exact else CUT_OFF_S, max(step, longest) * CLOCK)
        if self.ended_early is None:
            is_short = should is not None and should - end > tolerance
            self.ended_early = self._cut_off(end, should if is_short else None) or self._damaged(damaged)

    def _cut_off(self, end: Fraction, should: Fraction | None) -> str | None:
        """Return a message if the file is incomplete; None if it is not.

        Arguments:
            end: time in seconds at which the last picture ends.
            should: time at which it should end; None if the times show nothing missing.
        """
        if should is not None:
            last_s, length = (seconds - self.info.origin * CLOCK for seconds in (end, should))
            read, expected = (round(seconds * self.info.rate) for seconds in (last_s, length))
            return (
                f"{self.name} is incomplete: the pictures end at {float(last_s):.2f} s of {float(length):.2f} s, after "
                f"about {read} of {expected} frames"
            )
        size, declared = (None, None) if self.path is None else (self.path.stat().st_size, declared_size(self.path))
        if size is None or declared is None or size >= declared:
            return None
        return f"{self.name} is incomplete: it has {size:,} of {declared:,} bytes"

    def _damaged(self, first: int | None) -> str | None:
        """Return a message about damage; None if there is none.

        Arguments:
            first: ticks of the first damaged frame.
        """
        if first is None:
            return None
        return (
            f"{self.name} is damaged: FFmpeg reports errors in its pictures, first at "
            f"{float((first - self.info.origin) * CLOCK):.2f} s, so some may be wrong or missing; use an undamaged "
            "copy of it, if there is one"
        )

    def _decoded(self) -> Iterator[tuple[Any, bool]]:
        """Yield frames as FFmpeg decodes them, and whether a frame is damaged, or a damaged one before it is missing.

        The first frames of a recording, and those after seeking, may depend on frames that are not there. They are not
        called damaged. Also note key packets, except the first: decoding starts there anyway.
        """
        is_damaged = is_sound = False
        base = Fraction(self.stream.time_base) / CLOCK
        by_dts = self.container.format.name in SOUGHT_BY_DTS
        for number, packet in enumerate(steady(self.container, [self.stream])):
            is_first = number == 0 and not self._is_sought
            is_sound |= is_first and packet.is_keyframe
            if not is_first and packet.is_keyframe and packet.pts is not None and packet.dts is not None:
                self._keys.append((round(packet.pts * base), packet.dts if by_dts else packet.pts))
            try:
                frames = packet.decode()
            except import_av().InvalidDataError:
                is_damaged, frames = True, []
            for frame in frames:
                is_damaged |= frame.is_corrupt
                yield frame, is_damaged and is_sound
                is_sound, is_damaged = is_sound or not is_damaged, False
        if is_damaged:
            self.ended_early = f"{self.name} is damaged: FFmpeg cannot decode its last frames; use an undamaged copy"

    def _is_picture(self) -> bool:
        """Return whether the file is a single image. FFmpeg reads images as videos of one frame."""
        name = self.container.format.name
        is_still = self.container.metadata.get("major_brand") in PICTURE_BRANDS
        return name == PICTURE_FORMAT or name.endswith(PICTURE_FORMATS) or is_still

    def _image(self, frame: Any) -> Image:
        """Return the pixels of a decoded frame."""
        untagged_hd = self.stream.codec_context.colorspace == UNSPECIFIED and self.stream.height >= HD_LINES
        matrix = "ITU709" if untagged_hd else None
        if not self._has_alpha:
            return self._upright(frame, matrix)
        return framed(*split_alpha(self._upright(frame, matrix, "rgba")), self.info.has_alpha)

    def _key(self, ticks: int) -> int | None:
        """Return where to seek for the last key frame that is shown at or before a time; None if none was noted."""
        while len(self._keys) > 1 and self._keys[1][0] <= ticks:
            self._keys.popleft()
        return self._keys[0][1] if self._keys and self._keys[0][0] <= ticks else None

    def end(self) -> Fraction | None:
        """Return the time in seconds at which the pictures should end; None if the container does not say.

        Files that are cut off end earlier, which decoders do not report.
        """
        if is_restarting(self.container):  # FFmpeg computes the duration from the last packets, by their own clock
            return None
        if self.stream.duration is not None:
            return Fraction((self.stream.start_time or 0) + self.stream.duration) * Fraction(self.stream.time_base)
        said = DURATION.fullmatch(self.stream.metadata.get(MATROSKA_DURATION, ""))
        if said is None:
            return None
        hours, minutes, seconds = map(Fraction, said.groups())
        return hours * 3600 + minutes * 60 + seconds

    def close(self) -> None:
        self._closed = True

    def _info(self, keeps_alpha: bool) -> VideoInfo:
        stream, context, aspect, hdr10 = self.stream, self.stream.codec_context, self.stream.sample_aspect_ratio, ""
        colour = {tag: int(getattr(context, tag)) for tag in TAGS}
        is_hd = colour["colorspace"] == BT709 or (colour["colorspace"] == UNSPECIFIED and stream.height >= HD_LINES)
        assumed = BT709 if is_hd else BT601
        known = {tag: assumed if value in (0, UNSPECIFIED) else value for tag, value in colour.items()}
        is_rgb = colour["colorspace"] == RGB_MATRIX
        known["color_range"] = LIMITED_RANGE if is_rgb else colour["color_range"] or LIMITED_RANGE
        has_wide_pixels, is_pq = aspect and aspect != 1, colour["color_trc"] == PQ
        first = self._first_frame() if has_wide_pixels or is_pq else None  # few videos need it
        if first is not None:
            aspect = 1 / aspect if has_wide_pixels and is_on_its_side(first) else aspect
            hdr10 = x265_hdr10(first) if is_pq else ""
        return VideoInfo(
            frames=stream.frames or None,
            rate=Fraction(stream.average_rate or stream.guessed_rate or 25),
            height=stream.height,
            width=stream.width,
            bits=context.format.components[0].bits if context.format else 8,
            colour=known,
            sample_aspect_ratio=aspect,
            metadata=dict(self.container.metadata),
            pixel_format=context.pix_fmt or "yuv420p",
            origin=round(Fraction(self.container.start_time or 0, 1_000_000) / CLOCK),
            has_alpha=keeps_alpha and self._has_alpha,
            hdr10=hdr10,
        )

    def _first_frame(self) -> Any:
        """Return the first frame; None if it cannot be decoded, which `frames` reports.

        It is decoded from a second container, so that the first one is still at its beginning.
        """
        with suppress(import_av().FFmpegError), open_to_read(self.container.name) as container:
            return next(container.decode(video=0), None)
        return None
