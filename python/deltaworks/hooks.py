"""Event hooks: the user's functions that are told the events of an update."""

from __future__ import annotations

import copy
import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaworks.evaluate import Reports
    from deltaworks.graph import EventHook


class Hooks:
    """Calls hooks one after the other, in a thread of its own, so that a slow one holds up nothing else."""

    def __init__(
        self, hooks: list[EventHook], reports: Reports, describe: Callable[[BaseException], dict[str, Any]]
    ) -> None:
        self._hooks = hooks
        self._reports = reports
        self._describe = describe
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._failures: dict[str, int] = {}

    def tell(self, event: dict[str, Any]) -> None:
        """Has every hook called with `event`, and with those before it first."""
        self._events.put(event)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="event hooks", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            event = self._events.get()
            for hook in self._hooks:
                if not self._is_disabled(hook):
                    self._call(hook, event)
            self._reports.send("told")

    def _call(self, hook: EventHook, event: dict[str, Any]) -> None:
        try:
            # A hook may change its event; the others must not see that.
            hook.function(copy.deepcopy(event))
        except BaseException as error:
            self._failures[hook.name] = self._failures.get(hook.name, 0) + 1
            self._reports.send("hook", hook=hook.name, disabled=self._is_disabled(hook), **self._describe(error))
        else:
            self._failures[hook.name] = 0

    def _is_disabled(self, hook: EventHook) -> bool:
        limit = hook.max_allowable_consecutive_failures
        return limit is not None and self._failures.get(hook.name, 0) > limit
