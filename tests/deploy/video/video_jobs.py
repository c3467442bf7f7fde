"""Video jobs, built as `caflow video` builds them."""

from pathlib import Path

from msgspec import structs

from caflow_deploy.jobs.folder import settings_of_pipeline
from caflow_deploy.video.encoding import Encoding
from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import Source
from caflow_deploy.video.job import TakeFrame, VideoJob
from caflow_deploy.video.segment_store import VideoSettings, identity_of
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import StreamSettings

H264 = Encoding("h264", 18, 8)


def video_settings(pipe: Pipeline, source: Source, streaming: StreamSettings, segment_frames: int) -> VideoSettings:
    pipeline = settings_of_pipeline(pipe)
    streaming = structs.replace(streaming, draw=streaming.draw.for_model(pipe.manifest))
    return VideoSettings(pipeline, streaming, H264, segment_frames, identity_of(source))


def video_job(
    pipe: Pipeline,
    source: Source | Path,
    output: Path,
    streaming: StreamSettings | None = None,
    segment_frames: int = 240,
    show: TakeFrame | None = None,
) -> VideoJob:
    opened = FileSource(source) if isinstance(source, Path) else source
    settings = video_settings(pipe, opened, streaming or StreamSettings(), segment_frames)
    return VideoJob(pipe, opened, output, settings, show)
