"""Sinks and event hooks: what leaves the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deltaworks import graph, source
from deltaworks.api import arguments
from deltaworks.graph import BatchFunction, EventHook, Output

Function = Callable[..., Any]


def create_sink(name: str, format: str, options: dict[str, str] | None = None) -> None:
    """Defines a place outside the pipeline that flows can write to."""
    sink = Output(
        name=arguments.string("name", name),
        kind="sink",
        location=source.caller(),
        format=arguments.string("format", format),
        options=arguments.settings("options", options),
    )
    graph.active().add_output(sink)


def foreach_batch_sink(function: Function | None = None, *, name: str | None = None) -> Any:
    """Defines a sink whose batches are handed to the function.

    The function is called with a DataFrame, which can be read as often as needed while the function runs, and the
    number of the batch. A batch that fails is handed over again: the same rows, under the same number. Numbers start
    at 0, and again after a full refresh.
    """
    if isinstance(function, str):
        name, function = function, None
    arguments.optional_string("name", name)
    location = source.caller()

    def define(handler: Function) -> Function:
        sink = Output(
            name=arguments.name_of(handler, name),
            kind="sink",
            location=location,
            extension={"foreach_batch": True},
        )
        active = graph.active()
        active.add_output(sink, handler)
        # Of two sinks of one name, which the engine refuses, the first one stays.
        active.batch_functions.setdefault(sink.name, BatchFunction(sink, handler))
        return handler

    return arguments.decorator("foreach_batch_sink", function, define)


def on_event_hook(
    user_event_hook_fn: Function | None = None, *, max_allowable_consecutive_failures: int | None = None
) -> Any:
    """Registers a function that is called with every event of the update."""
    limit = max_allowable_consecutive_failures
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise arguments.type_error("max_allowable_consecutive_failures", "int >= 0", limit)

    def define(hook: Function) -> Function:
        name = arguments.name_of(hook, None)
        active = graph.active()
        if any(existing.name == name for existing in active.hooks):
            raise RuntimeError(f"Cannot redefine event hook '{name}'.")
        active.hooks.append(EventHook(name, hook, limit))
        return hook

    return arguments.decorator("on_event_hook", user_event_hook_fn, define)
