"""The first thing `import flujo` does: see that no other distribution has written into this package.

The work is in `flujo_rs_clash`, outside the package, because the interpreter's start-up must reach it even
when this package has been overwritten. This second call serves folders whose start-up files Python doesn't
run, such as those of `PYTHONPATH` or `pip install --target`.
"""


def check() -> None:
    """Raise ImportError, with the pip commands that help, if the distribution `flujo` is here too."""
    try:
        import flujo_rs_clash
    except (
        ModuleNotFoundError
    ):  # the source tree itself is on the path: nothing is installed, nothing can clash
        return
    flujo_rs_clash.check()
