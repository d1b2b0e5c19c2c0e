"""Tools for testing pipelines."""
