"""Pipelines that are often wanted, put together from steps."""
