"""Options about the encoding of the result of `caflow video`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

import click

from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_deploy.commands.option_values import options
from caflow_deploy.video.encoding import (
    Codec,
    Encoding,
    bits_of,
    check_encoder,
    check_output,
    has_hardware_encoder,
    result_bits,
    usual_codec,
)
from caflow_deploy.video.frame_source import VideoInfo
from caflow_deploy.video.pipe import PipeWriter
from caflow_runtime.errors import InputError

CODECS = ["h264", "hevc", "av1", "vp9", "ffv1"]


@dataclass(frozen=True)
class EncodingOptions:
    """Values of the options about encoding."""

    codec: Codec | None
    crf: int
    encoder: Literal["auto", "software", "nvenc"]
    preset: str | None
    pixel_format: str | None

    def of(self, info: VideoInfo, output: Path, sides: tuple[int, int], execution: ExecutionOptions) -> Encoding:
        """Return the encoding of a result. Bits that are not given are those of the source.

        The encoding is in hardware if that is available and no other processes do the work.

        Arguments:
            info: the source.
            sides: height and width of the result.

        Raises:
            InputError: if the encoder, or the format of the output file, does not support the encoding.
        """
        execution.refuse({"--encoder nvenc": self.encoder == "nvenc"})
        bits = bits_of(self.pixel_format) if self.pixel_format else info.bits
        codec = self.codec or usual_codec(output, bits)
        bits = result_bits(output, codec, bits)
        software = Encoding(codec, self.crf, bits, False, self.preset, self.pixel_format, info.has_alpha)
        check_output(output, software)
        encoding = self._in_hardware(software, sides, execution)
        check_encoder(encoding, *sides)
        return encoding

    def writer(self, out: BinaryIO, info: VideoInfo) -> PipeWriter:
        """Return the writer of frames to standard output. They are not encoded.

        Raises:
            InputError: if --codec or --preset is given, or the pixel format is not supported.
        """
        if self.codec is not None or self.preset is not None:
            raise InputError("-o - writes frames that are not encoded; remove --codec and --preset")
        return PipeWriter(out, info, self.pixel_format)

    def _in_hardware(self, software: Encoding, sides: tuple[int, int], execution: ExecutionOptions) -> Encoding:
        if self.encoder == "software" or execution.is_spread:
            return software
        height, width = sides
        if has_hardware_encoder(software, height, width):
            return replace(software, hardware=True)
        if self.encoder == "nvenc":
            raise InputError(
                f"--encoder nvenc: NVENC cannot encode {software.codec} of {width}×{height} here; remove --encoder"
            )
        return software


encoding_options = options(
    click.option(
        "--codec", type=click.Choice(CODECS), help="Video codec.  [default: h264; hevc for 10 bits; vp9 in .webm]"
    ),
    click.option(
        "--preset",
        help="Speed of the encoder, by the encoder's own name: slow for h264 and hevc, or 6 for av1 and vp9, for "
        "example.",
    ),
    click.option(
        "--pixel-format",
        help="Pixel format, by FFmpeg's name, such as yuv444p or yuv420p10le.  [default: 4:2:0, bits as in IN]",
    ),
    click.option(
        "--crf",
        type=click.IntRange(0, 63),
        default=18,
        show_default=True,
        help="Constant rate factor of the encoder; lower values give higher quality and larger files. ffv1 is "
        "lossless and ignores it.",
    ),
    click.option(
        "--encoder",
        type=click.Choice(["auto", "software", "nvenc"]),
        default="auto",
        show_default=True,
        help="Where to encode. auto: on an NVIDIA GPU that supports it (NVENC), and otherwise in software. "
        "software: on the CPU. nvenc: on the GPU, or end with an error.",
    ),
)
"""Options that say how a video is encoded."""
