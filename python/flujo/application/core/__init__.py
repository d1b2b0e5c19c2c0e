"""The executor's parts."""
