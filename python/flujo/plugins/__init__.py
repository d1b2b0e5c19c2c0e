"""Plugins that ship. Each is imported from its own module, since some need an optional package."""
