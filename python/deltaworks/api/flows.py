"""Flows: queries that write to a table or a sink defined elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deltaworks import graph, source
from deltaworks.api import arguments
from deltaworks.graph import Flow

Function = Callable[..., Any]


def append_flow(
    *,
    target: str,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
    once: bool = False,
    import_checkpoint: str | None = None,
) -> Callable[[Function], Function]:
    """Appends what the query returns to `target`; with `once` a batch query, run one time."""
    extension: dict[str, Any] = {}
    if import_checkpoint is not None:
        extension["import_checkpoint"] = arguments.string("import_checkpoint", import_checkpoint)
    return _flow("append_flow", target, name, comment, spark_conf, once, extension)


def update_flow(
    *,
    target: str,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
) -> Callable[[Function], Function]:
    """Sends the rows that a batch has changed to the sink `target`."""
    return _flow("update_flow", target, name, comment, spark_conf, False, {"mode": "update"})


def replace_flow(
    *,
    target: str,
    replace_using: list[str],
    sequence_by: str | None = None,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
) -> Callable[[Function], Function]:
    """Replaces the rows of `target` that have the values of `replace_using` that a batch brings."""
    if sequence_by is not None:
        raise NotImplementedError("sequence_by of a replace flow is not supported yet")
    extension = {"mode": "replace", "replace_using": arguments.strings("replace_using", replace_using)}
    return _flow("replace_flow", target, name, comment, spark_conf, False, extension)


def _flow(
    decorator: str,
    target: str,
    name: str | None,
    comment: str | None,
    spark_conf: dict[str, str] | None,
    once: bool,
    extension: dict[str, Any],
) -> Callable[[Function], Function]:
    arguments.string("target", target)
    arguments.optional_string("name", name)
    conf = arguments.settings("spark_conf", spark_conf)
    if comment is not None:
        extension["comment"] = arguments.string("comment", comment)
    location = source.caller()

    def outer(function: Function) -> Function:
        arguments.callable_or_raise(decorator, function)
        flow = Flow(
            name=arguments.name_of(function, name),
            target=target,
            location=location,
            function=function,
            spark_conf=conf,
            once=bool(once),
            extension=extension,
        )
        graph.active().flows.append(flow)
        return function

    return outer
