"""Settings for all Python tests."""

from hypothesis import settings

# A deadline is a wall-clock assertion: on a busy machine it fails for no fault of the code.
settings.register_profile("test", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=10_000)
settings.load_profile("test")
