"""Tools for testing pipelines."""

from flujo.testing.replays import replay_test

__all__ = ["replay_test"]
