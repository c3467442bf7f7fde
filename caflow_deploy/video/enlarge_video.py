"""Enlarging of a video file by one call, and the checks before it begins."""

from contextlib import closing
from os import PathLike
from pathlib import Path

from msgspec import structs

from caflow_deploy.images.open_models import RunOptions, opened
from caflow_deploy.jobs.folder import make_folder, settings_of_pipeline
from caflow_deploy.video.any_source import open_video
from caflow_deploy.video.frame_source import Source, VideoInfo
from caflow_deploy.video.job import VideoJob, VideoOutcome
from caflow_deploy.video.numbered import is_numbered, numbered, numbers_of
from caflow_deploy.video.results import holds_alpha
from caflow_deploy.video.segment_store import VideoSettings, holds_a_job, identity_of
from caflow_deploy.video.video_options import VideoOptions
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.bundle.builtin import DEFAULT_FOR_VIDEOS
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.checks import checked_path
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Stream, StreamSettings


def enlarge_video(
    source: str | PathLike[str],
    output: str | PathLike[str],
    *,
    model: str | PathLike[str] | Pipeline = DEFAULT_FOR_VIDEOS,
    options: DrawOptions = DrawOptions(),
    video: VideoOptions = VideoOptions(),
    run: RunOptions = RunOptions(),
) -> VideoOutcome:
    """Enlarge a video, frame by frame, and keep its sound and subtitles. The same call resumes after a stop.

    Arguments:
        source: a video, an animation, or numbered images such as "frames/%05d.png".
        output: file to write: a video (.mp4, .mkv, .mov, .webm), an animation (.gif, .png, .webp), or numbered images.
        model: a model that enlarges.
        options: how samples are drawn. `n` samples are drawn of a scene's first frame; the scene keeps the best one.
        video: how frames are drawn and encoded, which of them, and whether an existing output is replaced.
        run: where the model runs.

    Returns:
        Numbers of frames, why there are fewer than in the source (`ended_early`), and what could not be kept (`lost`).

    Raises:
        InputError: if an argument is not valid, does not fit the model, or the output exists.
        UnreadableVideo: if the source cannot be read.
        UnwritableVideo: if the output cannot be written. Finished segments are kept.
        BundleError, BackendError: if the model cannot be opened or run.
        KeyboardInterrupt: after a stop. The output contains what was drawn until then.
    """
    given, file = checked_path("source", source), checked_path("output", output)
    with opened(model, run) as pipe:
        streaming = video.streaming(options.for_model(pipe.manifest))
        check_frames(pipe, streaming)
        check_drops(streaming, is_numbered(file))
        with closing(open_video(given, video.cut, video.frames_per_second, holds_alpha(file))) as opened_source:
            check_overwriting(file, str(given), video.force or holds_a_job(file))
            streaming = with_number(pipe, streaming, opened_source.info)
            job = video_job(pipe, opened_source, file, streaming, video)
            make_folder(file.parent)
            outcome = job.run(video.force)
    if outcome.stopped is not None:
        raise outcome.stopped
    return outcome


def video_job(
    pipe: Pipeline, source: Source, output: Path, streaming: StreamSettings, video: VideoOptions, is_alone: bool = True
) -> VideoJob:
    """Return the job that writes a file.

    Arguments:
        is_alone: whether this process does the work.

    Raises:
        InputError: if the encoding does not fit the file.
    """
    is_images = source.path is not None and is_numbered(source.path) and not source.path.exists()
    rate = str(source.info.rate) if is_images else None
    encoding = video.encoding(source.info, output, sides_of(pipe, source.info, streaming), is_alone)
    settings = VideoSettings(
        settings_of_pipeline(pipe), streaming, encoding, video.segment_frames, identity_of(source), video.cut, rate
    )
    return VideoJob(pipe, source, output, settings)


def sides_of(pipe: Pipeline, info: VideoInfo, streaming: StreamSettings) -> tuple[int, int]:
    """Return height and width of the result. They are swapped if frames are rotated, which only decoding shows.

    Raises:
        InputError: if results cannot have the requested size, whether or not frames are rotated.
    """
    scale = pipe.manifest.model.scale
    if streaming.size is None:
        return scale * info.height, scale * info.width
    final = streaming.size.of(info.height, info.width, scale)
    if streaming.size.of(info.width, info.height, scale).passes != 1:
        streaming.final_size((info.height, info.width), scale)
    return final.height, final.width


def with_number(pipe: Pipeline, streaming: StreamSettings, info: VideoInfo) -> StreamSettings:
    """Return settings with the number of samples of a scene's first frame, which the size of the result decides."""
    height, width = sides_of(pipe, info, streaming)
    return structs.replace(streaming, draw=streaming.draw.for_result(height * width))


def check_frames(pipe: Pipeline, streaming: StreamSettings) -> None:
    """Check that a model can draw frames with these settings, before a source is opened.

    Raises:
        InputError: if it cannot.
    """
    if pipe.manifest.model.condition_channels > VALUES:
        raise InputError(f"{pipe.folder.name} completes images with a mask or hints, which videos do not have")
    Stream(pipe, streaming)


def check_drops(streaming: StreamSettings, has_no_times: bool) -> None:
    """Check that frames are dropped only if the output stores presentation times.

    Raises:
        InputError: if they are dropped otherwise.
    """
    if streaming.draw.otherwise == "drop" and has_no_times:
        raise InputError(
            "otherwise = drop does not work with this output: it stores no frame times, so later frames would be shown "
            "too early; use keep or bicubic"
        )


def check_overwriting(output: Path, source: str, overwrites: bool) -> None:
    """Check that no file is overwritten or removed without permission, and never the input.

    Raises:
        InputError: if one would be.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder; give the name of a file as `output`")
    given = Path(source)
    results = _on_disk(output, is_numbered(output))
    if results & _on_disk(given, is_numbered(given) and not given.exists()):
        raise InputError(f"{output} is the input file, or one of its images; choose another `output`")
    if results and not overwrites:
        raise InputError(f"{output} already exists; use `force` to overwrite it, or choose another `output`")


def _on_disk(path: Path, is_pattern: bool) -> set[tuple[int, int]]:
    """Return the device and number of a file if it exists, or of all existing images of a pattern."""
    files = [numbered(path, number) for number in numbers_of(path)] if is_pattern else [path]
    found = [file.stat() for file in files if file.exists()]
    return {(one.st_dev, one.st_ino) for one in found}
