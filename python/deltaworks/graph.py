"""What the source files have declared so far, before it is sent to the engine."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from pyspark.sql import Column
    from pyspark.sql.types import StructType

Action = Literal["warn", "drop", "fail"]
OutputKind = Literal["materialized_view", "table", "temporary_view", "sink"]


@dataclass(frozen=True)
class Location:
    """A line of the user's source."""

    file: str
    line: int


@dataclass(frozen=True)
class Expectation:
    """A named constraint on the rows of a dataset."""

    name: str
    condition: str | Column
    action: Action
    location: Location


@dataclass
class Output:
    """A dataset or a sink."""

    name: str
    kind: OutputKind
    location: Location
    comment: str | None = None
    table_properties: Mapping[str, str] = field(default_factory=dict)
    partition_cols: list[str] = field(default_factory=list)
    cluster_by: list[str] = field(default_factory=list)
    schema: StructType | str | None = None
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    expectations: list[Expectation] = field(default_factory=list)
    extension: dict[str, Any] = field(default_factory=dict)


@dataclass
class Flow:
    """What writes an output: a function, or the parameters of a change flow."""

    name: str
    target: str
    location: Location
    function: Callable[[], Any] | None = None
    spark_conf: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    auto_cdc: dict[str, Any] | None = None
    snapshots: Callable[[Any], Any] | None = None
    extension: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchFunction:
    """A function that is called with the rows of each batch of a sink."""

    sink: Output
    function: Callable[[Any, int], Any]


@dataclass(frozen=True)
class EventHook:
    """A function that is told every event."""

    name: str
    function: Callable[[dict[str, Any]], Any]
    max_allowable_consecutive_failures: int | None


class Graph:
    """Collects declarations in the order they are made."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.flows: list[Flow] = []
        self.hooks: list[EventHook] = []
        self.batch_functions: dict[str, BatchFunction] = {}
        self.current_flow: str | None = None
        # By identity: a function may stand under several decorators, and need not be hashable.
        self._expectations: dict[int, tuple[object, list[Expectation]]] = {}
        self._outputs_of: dict[int, tuple[object, Output]] = {}

    def add_output(self, output: Output, function: object | None = None) -> None:
        """Adds an output; `function` is the decorated function, whose expectations it takes."""
        if function is not None:
            output.expectations.extend(self.expectations_of(function))
            self._outputs_of[id(function)] = (function, output)
        self.outputs.append(output)

    def remove_output(self, output: Output) -> None:
        """Takes back an output that turned out not to be one."""
        self.outputs = [other for other in self.outputs if other is not output]

    def expectations_of(self, function: object) -> list[Expectation]:
        """The expectations that stand below the dataset decorator."""
        return list(self._expectations.get(id(function), (function, []))[1])

    def add_expectation(self, function: object, expectation: Expectation) -> None:
        """Adds an expectation, whether it stands below the dataset decorator or above it."""
        defined = self._outputs_of.get(id(function))
        if defined is not None:
            defined[1].expectations.append(expectation)
        else:
            self._expectations.setdefault(id(function), (function, []))[1].append(expectation)


_active: ContextVar[Graph | None] = ContextVar("deltaworks_graph", default=None)
# Threads of the user's start with an empty context; they declare into the same graph.
_fallback: list[Graph] = []


def active() -> Graph:
    """The graph that the running source file declares into."""
    graph = _active.get() or (_fallback[-1] if _fallback else None)
    if graph is None:
        from pyspark.errors import PySparkRuntimeError

        raise PySparkRuntimeError(
            errorClass="GRAPH_ELEMENT_DEFINED_OUTSIDE_OF_DECLARATIVE_PIPELINE",
            messageParameters={},
        )
    return graph


def activate(graph: Graph) -> AbstractContextManager[Graph]:
    """Makes `graph` the one that declarations go to."""
    from contextlib import contextmanager

    @contextmanager
    def scope() -> Iterator[Graph]:
        token = _active.set(graph)
        _fallback.append(graph)
        try:
            yield graph
        finally:
            _fallback.remove(graph)
            _active.reset(token)

    return scope()
