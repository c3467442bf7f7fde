"""Answers of a model server, independent of the serving engine."""
