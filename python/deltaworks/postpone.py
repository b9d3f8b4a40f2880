"""Pandas, PyArrow and NumPy for the stock client, loaded when they are used.

The client imports them for their versions, for types to compare with and for rows that come back, which is most of the
time that it takes to start. A pipeline that only describes its datasets needs none of them.
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

_PACKAGES = ("pandas", "pyarrow", "numpy")
# What the client imports by name while it is being imported.
_FUNCTIONS = {"pandas.api.types": ("is_datetime64_dtype", "is_timedelta64_dtype")}
# What its annotations name, and what it asks `isinstance` for: nothing is one of these before they are loaded.
_TYPES = {
    "pandas": ("DataFrame", "Timedelta"),
    "pyarrow": ("RecordBatch", "Schema", "Table"),
    "numpy": (
        "bool_",
        "float32",
        "float64",
        "generic",
        "int8",
        "int16",
        "int32",
        "int64",
        "ndarray",
        "str_",
    ),
}


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """What is imported within has packages that load themselves at their first use; all others have the real ones."""
    modules: dict[str, types.ModuleType] = {}
    for package in _PACKAGES:
        spec = None if package in sys.modules else importlib.util.find_spec(package)
        version = _installed_version(package, spec.origin) if spec is not None else None
        # The client says what is missing.
        if version is not None:
            modules[package] = _Postponed(package)
            modules[package].__dict__.update({"__spec__": spec, "__version__": version})
    if "pandas" in modules:
        modules["pandas.api"] = _Postponed("pandas.api")
        for name, functions in _FUNCTIONS.items():
            modules[name] = _Postponed(name)
            modules[name].__dict__.update({function: _function(name, function) for function in functions})
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _installed_version(package: str, origin: str | None) -> str | None:
    """The version by the name of the metadata's folder: reading the metadata costs a tenth of pandas."""
    if origin is None:
        return None
    beside = os.listdir(os.path.dirname(os.path.dirname(origin)))
    found = [name for name in beside if name.startswith(f"{package}-") and name.endswith(".dist-info")]
    return found[0].removeprefix(f"{package}-").removesuffix(".dist-info") if len(found) == 1 else None


class _NotLoaded(type):
    """Types that stand for one of a package that is not loaded: there are no values of them, but some can be made."""

    module: str

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        return cls._loaded()(*arguments, **options)

    def __getattr__(cls, attribute: str) -> Any:
        if attribute.startswith("__"):
            # Annotations ask for such, of all types.
            raise AttributeError(attribute)
        return getattr(cls._loaded(), attribute)

    def _loaded(cls) -> Any:
        return getattr(_real(cls.module), cls.__name__)


class _Postponed(types.ModuleType):
    """Stands for a module that is not loaded yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # A package: its modules can be imported by name.
        self.__path__: list[str] = []

    def __getattr__(self, attribute: str) -> Any:
        loaded = sys.modules.get(self.__name__)
        if attribute in _TYPES.get(self.__name__, ()) and (loaded is None or loaded is self):
            return _NotLoaded(attribute, (), {"module": self.__name__})
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
