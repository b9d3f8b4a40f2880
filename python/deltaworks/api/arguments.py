"""Checks of arguments, with the errors PySpark gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pyspark.sql import Column

F = TypeVar("F", bound=Callable[..., Any])


def type_error(name: str, expected: str, value: object) -> Exception:
    """The error for an argument of a wrong type."""
    from pyspark.errors import PySparkTypeError

    error: Exception = PySparkTypeError(
        errorClass="NOT_EXPECTED_TYPE",
        messageParameters={"arg_name": name, "expected_type": expected, "arg_type": type(value).__name__},
    )
    return error


def string(name: str, value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise type_error(name, "str", value)
    return value


def optional_string(name: str, value: object) -> str | None:
    """A string or None."""
    return None if value is None else string(name, value)


def strings(name: str, value: object) -> list[str]:
    """A list of strings; None is the empty list."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise type_error(name, "list[str]", value)
    return list(value)


def settings(name: str, value: object) -> dict[str, str]:
    """A dict of settings, values as Spark writes them; None is the empty dict."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise type_error(name, "dict", value)
    return {str(key): setting(item) for key, item in value.items() if item is not None}


def setting(value: object) -> str:
    """A value of a setting as Spark writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def column(name: str, value: object) -> str | Column:
    """A Column, or SQL text."""
    from pyspark.sql import Column

    if isinstance(value, (str, Column)):
        return value
    raise type_error(name, "Column or str", value)


def columns(name: str, value: object) -> list[str | Column] | None:
    """A list of Columns or names; None and the empty list count as not given."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise type_error(name, "list[Column] or list[str]", value)
    return [column(name, item) for item in value] or None


def callable_or_raise(decorator: str, function: object) -> None:
    """Refuses `@table("name")`: the name is no function."""
    if not callable(function):
        raise RuntimeError(
            f"The first positional argument passed to @{decorator} must be callable. Either add @{decorator} "
            f"with no parameters to your query function, or pass options to @{decorator} using keyword "
            f"arguments (e.g. @{decorator}(name='{decorator}_a'))."
        )


def name_of(function: Callable[..., Any], name: object) -> str:
    """The name given, or the function's own."""
    given = optional_string("name", name)
    if given:
        return given
    own = getattr(function, "__name__", None)
    if not isinstance(own, str):
        raise RuntimeError("the decorated object has no name of its own: pass name='...'")
    return own


def decorator(name: str, function: Any, apply: Callable[[F], F]) -> Any:
    """Makes a decorator work with and without parentheses."""
    if function is None:

        def outer(decorated: F) -> F:
            callable_or_raise(name, decorated)
            return apply(decorated)

        return outer
    callable_or_raise(name, function)
    return apply(function)


def deprecated(old: str, new: str) -> None:
    """Warns as Databricks does."""
    import warnings

    warnings.warn(f"Function {old} has been deprecated. Please use {new} instead.", DeprecationWarning, stacklevel=3)
