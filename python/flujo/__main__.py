"""The `flujo` command, as `python -m flujo` and as the package's script: the same program as the binary."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Do what this process's arguments ask.

    Returns:
        The exit code: 0 done, 1 failed, 2 invalid use or input, 3 paused, 4 limit reached, 130 interrupted.
    """
    if sys.argv[1:2] == ["bench"] and "memory" not in sys.argv:
        from flujo.bench.__main__ import main as bench

        return bench(sys.argv[2:])
    from flujo._native import run_command_line

    # The command cancels its run on an interrupt and ends in its own way; Python's handler would add a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_command_line(["flujo", *sys.argv[1:]], [sys.executable, "-m", "flujo"])


if __name__ == "__main__":
    sys.exit(main())
