"""Sound, subtitles, attachments and chapters, which a result takes over from its source.

Sound and subtitles are copied packet by packet. A stream that the container does not support is converted or omitted,
and reported.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from caflow_deploy.video.frame_source import CLOCK, WHOLE, VideoInfo
from caflow_deploy.video.opening import import_av, open_to_read
from caflow_deploy.video.timestamps import steady

SOUND = {".mp4": "aac", ".mov": "aac", ".mkv": "aac", ".webm": "libopus"}
"""Codec to which sound is converted if the container does not support its own codec, by file suffix."""
USUAL_RATE = 48_000
USUAL_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo"}
WORDS = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "srt", ".webm": "webvtt"}
"""Format to which text subtitles are converted if the container does not support their own, by file suffix."""
DESCRIBING = ("language", "title", "handler_name", "filename", "mimetype")
KINDS = {
    ".mp4": ("audio", "subtitle"),
    ".mov": ("audio", "subtitle"),
    ".mkv": ("audio", "subtitle", "attachment"),
    ".webm": ("audio", "subtitle"),
}
"""Kinds of streams that are carried over, by file suffix of the result."""

Carry = Callable[[Any], Iterator[Any]]
"""Function that turns a packet of the source into packets of the result. None asks for the last packets."""


@dataclass
class StreamCopy:
    """Sound, subtitles, attachments and chapters of a source, which are carried over to the result."""

    container: Any
    source: str | None
    suffix: str
    info: VideoInfo

    def __post_init__(self) -> None:
        self.lost: list[str] = []
        self.carries: dict[int, Carry] = {}
        self.reader: Any = None
        self.packets: Iterator[Any] = iter(())
        if self.source is not None:
            self.reader = open_to_read(self.source)
            self.container.set_chapters(list(self._chapters()))
            _describe(self.container.streams.video[0], self.reader.streams.video[0])
            kept = [stream for stream in self.reader.streams if self._carry(stream)]
            if kept:  # PyAV demuxes all streams if the list is empty
                demuxed = (packet for packet in steady(self.reader, kept) if packet.dts is not None)
                self.packets = filter(self._is_within, demuxed)
        self.next = self._advance()

    def carry_until(self, seconds: Fraction | None) -> None:
        """Write the packets up to a time; None writes all remaining ones."""
        while self.next is not None and (seconds is None or self.next.dts * self.next.time_base <= seconds):
            self._mux(self.carries[self.next.stream.index](self.next))
            self.next = self._advance()
        if seconds is None:
            for carry in self.carries.values():
                self._mux(carry(None))

    def close(self) -> None:
        """Close the source."""
        if self.reader is not None:
            self.reader.close()

    def _advance(self) -> Any:
        """Return the next packet; None at the end, or where the file is damaged."""
        try:
            return next(self.packets, None)
        except import_av().FFmpegError as error:
            self.lost.append(f"sound and subtitles end where the file is damaged: {error.strerror}")
            return None

    def _is_within(self, packet: Any) -> bool:
        """Return whether a packet lies within the cut. If so, change its times to those of the result."""
        base = Fraction(packet.time_base) / CLOCK
        zero = round(self.info.zero / base)
        end = None if self.info.cut.end is None else round((self.info.origin + self.info.cut.end) / base) - zero
        if self.info.cut == WHOLE and packet.stream.type != "subtitle":
            packet.dts -= zero
            packet.pts = None if packet.pts is None else packet.pts - zero
            return True
        pts, duration = (packet.dts if packet.pts is None else packet.pts) - zero, packet.duration or 0
        if packet.stream.type == "subtitle" and pts < 0 < pts + duration:  # on screen at the beginning
            pts, duration = 0, duration + pts
        if pts < 0 or (end is not None and pts >= end):
            return False
        if packet.stream.type == "subtitle" and end is not None:
            duration = min(duration, end - pts)
        packet.dts = min(packet.dts - zero, pts) if packet.stream.type == "audio" else pts
        packet.pts, packet.duration = pts, duration
        return True

    def _chapters(self) -> Iterator[Any]:
        """Yield the chapters within the cut, with the times of the result."""
        cut, zero = self.info.cut, self.info.zero
        for chapter in self.reader.chapters():
            base = Fraction(chapter["time_base"]) / CLOCK
            start, end = (chapter[name] * base - zero for name in ("start", "end"))
            if cut.end is not None:
                end = min(end, cut.end - cut.start)
            if cut != WHOLE and (end <= 0 or end <= start):
                continue
            yield chapter | {"start": round(max(0, start) / base), "end": round(end / base)}

    def _mux(self, packets: Iterator[Any]) -> None:
        for packet in packets:
            self.container.mux(packet)

    def _carry(self, stream: Any) -> bool:
        """Prepare to copy or convert a stream. Return whether its packets must be read; report losses in `lost`."""
        if stream.type == "video" and stream.index == self.reader.streams.video[0].index:
            return False
        name = f"{stream.type} {stream.index}"
        codec = getattr(stream.codec_context, "name", "unknown")
        if stream.type not in KINDS[self.suffix.lower()]:
            self.lost.append(f"{name} ({codec}) is omitted")
            return False
        try:
            if codec.startswith("pcm_") and self.suffix.lower() == ".mp4":
                raise ValueError("FFmpeg cannot always write it to MP4")
            self.carries[stream.index] = _copied(self.container, stream)
        except ValueError as refusal:  # the container does not support the codec
            if not self._convert(stream):
                self.lost.append(f"{name} ({codec}) is omitted: {refusal}: a name that ends in .mkv may keep it")
                return False
            self.lost.append(f"{name} ({codec}) is converted: {refusal}: a name that ends in .mkv keeps it unchanged")
        return bool(stream.type != "attachment")

    def _convert(self, stream: Any) -> bool:
        """Prepare to convert a stream, and return whether that is possible.

        Sound is converted to the codec in `SOUND`, text subtitles to the format in `WORDS`.
        """
        if stream.codec_context is None:  # FFmpeg does not know the codec
            return False
        if stream.type == "audio":
            self.carries[stream.index] = _converted_sound(self.container, stream, SOUND[self.suffix.lower()])
        elif stream.type == "subtitle" and stream.codec_context.codec.text_sub:
            words = WORDS[self.suffix.lower()]
            self.carries[stream.index] = _converted_words(self.container, stream, words)
        return stream.index in self.carries


def _copied(container: Any, stream: Any) -> Carry:
    copy = container.add_stream_from_template(stream)
    _describe(copy, stream)

    def carry(packet: Any) -> Iterator[Any]:
        if packet is not None:
            packet.stream = copy
            yield packet

    return carry


def _describe(copy: Any, stream: Any) -> None:
    """Copy the description of a stream and whether players choose it, but not how it was encoded."""
    copy.metadata.update({key: value for key, value in stream.metadata.items() if key.lower() in DESCRIBING})
    copy.disposition = stream.disposition


def _converted_sound(container: Any, stream: Any, codec: str) -> Carry:
    context = stream.codec_context
    rates = import_av().Codec(codec, "w").audio_rates or []
    rate = context.sample_rate if context.sample_rate in rates else USUAL_RATE
    # Old containers contain the number of channels, but not their layout.
    layout = USUAL_LAYOUTS.get(context.layout.name, context.layout.name)
    encoded = container.add_stream(codec, rate=rate, layout=layout)
    _describe(encoded, stream)
    resampler = import_av().AudioResampler(encoded.codec_context.format, layout, rate)

    def carry(packet: Any) -> Iterator[Any]:
        for frame in _decoded(stream, packet):
            for resampled in resampler.resample(frame):
                yield from encoded.encode(resampled)
        if packet is None:
            for resampled in resampler.resample(None):
                yield from encoded.encode(resampled)
            yield from encoded.encode(None)

    return carry


def _decoded(stream: Any, packet: Any) -> list[Any]:
    """Return the decoded frames of a packet; none if it is damaged."""
    try:
        return list(stream.decode(packet))
    except import_av().FFmpegError:
        return []


def _converted_words(container: Any, stream: Any, codec: str) -> Carry:
    stream.codec_context.open()  # this creates the header, without which no encoder opens
    encoded = container.add_stream(codec)
    _describe(encoded, stream)
    encoded.codec_context.subtitle_header = stream.codec_context.subtitle_header

    def carry(packet: Any) -> Iterator[Any]:
        if packet is None:
            return
        try:
            words = stream.decode2(packet)
        except import_av().FFmpegError:  # a damaged subtitle is skipped
            return
        if words is not None:
            out = encoded.codec_context.encode_subtitle(words)
            out.pts = out.dts = packet.pts
            out.duration, out.time_base, out.stream = packet.duration, packet.time_base, encoded
            yield out

    return carry
