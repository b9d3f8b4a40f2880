"""Expectation decorators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from deltaworks import graph, source
from deltaworks.api import arguments
from deltaworks.graph import Action, Expectation

if TYPE_CHECKING:
    from pyspark.sql import Column

F = TypeVar("F", bound=Callable[..., Any])
Constraints = Mapping[str, "str | Column"]


def expect(name: str, inv: str | Column) -> Callable[[F], F]:
    """Counts the rows for which `inv` does not hold."""
    return _one(name, inv, "warn")


def expect_or_drop(name: str, inv: str | Column) -> Callable[[F], F]:
    """Leaves out the rows for which `inv` does not hold."""
    return _one(name, inv, "drop")


def expect_or_fail(name: str, inv: str | Column) -> Callable[[F], F]:
    """Fails the update if there is a row for which `inv` does not hold."""
    return _one(name, inv, "fail")


def expect_all(expectations: Constraints) -> Callable[[F], F]:
    """`expect` for every name and constraint."""
    return _decorator(from_constraints("expectations", expectations, "warn"))


def expect_all_or_drop(expectations: Constraints) -> Callable[[F], F]:
    """`expect_or_drop` for every name and constraint."""
    return _decorator(from_constraints("expectations", expectations, "drop"))


def expect_all_or_fail(expectations: Constraints) -> Callable[[F], F]:
    """`expect_or_fail` for every name and constraint."""
    return _decorator(from_constraints("expectations", expectations, "fail"))


def from_constraints(argument: str, constraints: object, action: Action) -> list[Expectation]:
    """The expectations of a dict from name to constraint; None is no expectations."""
    if constraints is None:
        return []
    if not isinstance(constraints, Mapping):
        raise arguments.type_error(argument, "dict", constraints)
    return [_expectation(name, inv, action) for name, inv in constraints.items()]


def _expectation(name: str, inv: str | Column, action: Action) -> Expectation:
    return Expectation(arguments.string("name", name), arguments.column("inv", inv), action, source.caller())


def _one(name: str, inv: str | Column, action: Action) -> Callable[[F], F]:
    return _decorator([_expectation(name, inv, action)])


def _decorator(expectations: list[Expectation]) -> Callable[[F], F]:
    def outer(function: F) -> F:
        if not callable(function):
            raise RuntimeError("an expectation must decorate a query function")
        for expectation in expectations:
            graph.active().add_expectation(function, expectation)
        return function

    return outer
