"""Refuses `import flujo` when another distribution has written into the same package folder.

The distribution `flujo` on PyPI provides a package of the same name as `flujo-rs` does. pip installs one over
the other without a word, and what is left is a mixture of both. If the other one came second, its
`flujo/__init__.py` has replaced ours, so no code in the package can notice. This module therefore lives
outside the package.

A clash is seen from pip's own record, the folder `flujo-<version>.dist-info` beside this file. When the
interpreter starts, the line in `flujo_rs_clash.pth` looks for such a name (one directory listing, 0.1 ms) and
loads this module only if there is one; loading it every time would cost a short script 1.6 ms. The line takes
the folder from the variable `sitedir` of the `site` module that runs it, and does nothing should a later
Python call it otherwise.
"""

import os
import sys


def check(directory: str = os.path.dirname(__file__)) -> None:
    """Raise ImportError if the distribution `flujo` is installed in `directory` too.

    Packages found elsewhere on `sys.path` overwrite nothing and are no clash.
    """
    try:
        names = os.listdir(directory)
    except OSError:  # a zip file, or a folder that may not be listed: nothing can be said about it
        return
    for name in names:
        # Here a hyphen always ends the project's name: ours is `flujo_rs-<version>.dist-info`.
        if name.startswith("flujo-") and name.endswith((".dist-info", ".egg-info")):
            raise ImportError(_explanation(directory, name.split("-")[1].removesuffix(".dist")), name="flujo")


def guard() -> None:
    """If there is a clash, make a later `import flujo` fail and explain it; the start-up itself goes on."""
    try:
        check()
    except ImportError:
        sys.meta_path.insert(0, _Refusal)


class _Refusal:
    """A finder that finds nothing: it checks again, since pip may have cured the clash since the start."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "flujo":
            check()


def _explanation(directory: str, version: str) -> str:
    import shlex

    pip = f"{shlex.quote(sys.executable)} -m pip"
    return (
        f"two distributions, 'flujo-rs' and 'flujo' ({version}), are installed into one package folder, "
        f"{os.path.join(directory, 'flujo')}, and have overwritten each other's files. Keep one of them.\n"
        f"To keep flujo-rs:\n"
        f"    {pip} uninstall --yes flujo flujo-rs\n"
        f"    {pip} install flujo-rs\n"
        f"To keep the other one:\n"
        f"    {pip} uninstall --yes flujo flujo-rs\n"
        f"    {pip} install flujo"
    )
