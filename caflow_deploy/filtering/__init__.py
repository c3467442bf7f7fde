"""Judgement of pairs of images by their likelihood, its calibration, and the report on verdicts."""
