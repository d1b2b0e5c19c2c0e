"""Telling of alerts: the log, and the runner's callback, in a thread of its own.

A callback that raises or hangs holds up no run: what it raises is logged and counted, and while it is behind by more
than the queue holds, alerts pass it by, which is counted too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

from flujo.domain.alerts import Alert
from flujo.domain.dsl._signature import analyse_callable

_log = logging.getLogger("flujo.monitor")

BEHIND = 64
"""How many alerts a callback may be behind."""

OnAlert = Callable[[Alert], object]


class AlertTeller:
    """Calls back for each alert, in order, in one daemon thread that starts with the first.

    Args:
        callback: Is told.
    """

    def __init__(self, callback: OnAlert) -> None:
        self.failed = 0
        """Callbacks that raised."""
        self.skipped = 0
        """Alerts that the callback wasn't told of."""
        self._callback = callback
        self._lock = threading.Lock()
        self._process: int | None = None
        self._alerts: queue.Queue[Alert | None]

    def tell(self, alert: Alert) -> None:
        """Queue an alert."""
        with self._lock:
            if self._process != os.getpid():  # threads don't come along into a forked child
                self._start()
            try:
                self._alerts.put_nowait(alert)
            except queue.Full:
                self.skipped += 1

    def _start(self) -> None:
        self._process = os.getpid()
        self._alerts = queue.Queue(BEHIND)
        weakref.finalize(self, _end, self._alerts).atexit = False
        arguments = (self._alerts, self._callback, weakref.ref(self))
        threading.Thread(target=_call_back, args=arguments, name="flujo-alerts", daemon=True).start()

    def reset(self) -> None:
        """Count anew."""
        self.failed = self.skipped = 0


def _end(alerts: queue.Queue[Alert | None]) -> None:
    with contextlib.suppress(queue.Full):  # then the callback hangs, and its thread with it
        alerts.put_nowait(None)


def _call_back(
    alerts: queue.Queue[Alert | None], callback: OnAlert, teller: weakref.ref[AlertTeller]
) -> None:
    while (alert := alerts.get()) is not None:
        try:
            callback(alert)
        except BaseException:
            if (counts := teller()) is not None:
                counts.failed += 1
            del counts
            _log.exception("on_alert has raised; it is told of the next alert")


def teller_for(callback: Any) -> AlertTeller | None:
    """Who tells this callback.

    Raises:
        TypeError: it can't be called, or gives a coroutine.
    """
    if callback is None:
        return None
    if not callable(callback) or analyse_callable(callback).is_async:
        raise TypeError(
            f"on_alert must be a plain function of one Alert, not {callback!r}: it is called in a thread of its own; "
            "to reach an event loop use loop.call_soon_threadsafe in it"
        )
    return AlertTeller(callback)


def raised(teller: AlertTeller | None, fields: tuple[Any, ...]) -> Alert:
    """Log an alert and tell the callback; gives it for whoever listens to the run."""
    alert = Alert(*fields)
    try:
        _log.warning("%s", alert.message)
    except Exception:
        # A handler of the program's own has failed: that is told where logging tells it, and costs no run.
        if logging.raiseExceptions:
            traceback.print_exc()
    if teller is not None:
        teller.tell(alert)
    return alert
