"""The Python API: pipelines, their results, and streams of video frames."""
