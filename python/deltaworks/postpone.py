"""Pandas for the stock client, loaded when it is used.

The client imports pandas for its version and for types to compare with, which is half of the time that it takes to
start. A pipeline seldom needs it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What the client imports by name while it is being imported.
_FUNCTIONS = {"pandas.api.types": ("is_datetime64_dtype", "is_timedelta64_dtype")}


@contextlib.contextmanager
def pandas_postponed() -> Iterator[None]:
    """What is imported within has a pandas that loads itself at its first use; everything else has the real one."""
    version = None if "pandas" in sys.modules else _installed_version()
    if version is None:
        # The client says what is missing.
        yield
        return
    modules = {name: _Postponed(name) for name in ("pandas", "pandas.api", *_FUNCTIONS)}
    # The client's annotations name the class.
    modules["pandas"].__dict__.update({"__version__": version, "DataFrame": Any})
    for name, functions in _FUNCTIONS.items():
        modules[name].__dict__.update({function: _function(name, function) for function in functions})
    sys.modules.update(modules)
    try:
        yield
    finally:
        del modules["pandas"].__dict__["DataFrame"]
        for name, module in modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _installed_version() -> str | None:
    """The version of pandas by the name of its metadata's folder: reading the metadata costs a tenth of pandas."""
    spec = importlib.util.find_spec("pandas")
    if spec is None or spec.origin is None:
        return None
    beside = os.listdir(os.path.dirname(os.path.dirname(spec.origin)))
    found = [name for name in beside if name.startswith("pandas-") and name.endswith(".dist-info")]
    return found[0].removeprefix("pandas-").removesuffix(".dist-info") if len(found) == 1 else None


class _Postponed(types.ModuleType):
    """Stands for a module that is not loaded yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # A package: its modules can be imported by name.
        self.__path__: list[str] = []

    def __getattr__(self, attribute: str) -> Any:
        return getattr(_real(self.__name__), attribute)


def _function(module: str, name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(_real(module), name)(*arguments, **options)

    return call


def _real(name: str) -> types.ModuleType:
    """The module itself, even while its stand-in is where imports look."""
    stand_ins = {key: module for key, module in sys.modules.items() if isinstance(module, _Postponed)}
    for key in stand_ins:
        del sys.modules[key]
    return importlib.import_module(name)
