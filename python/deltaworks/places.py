"""Places of production on this machine: the pipeline's ``path_mappings``, for Python's own reads of files."""

from __future__ import annotations

import builtins
import io
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Places:
    """Where prefixes of paths lie. The longest prefix wins, and it covers whole components, as for the engine."""

    def __init__(self, mappings: Mapping[str, str]) -> None:
        known = [(_canonical(prefix).rstrip("/"), local) for prefix, local in mappings.items()]
        # `/dbfs/x` is `/x`, and not longer for being spelled so.
        self._mappings = sorted(known, key=lambda item: (-len(item[0].removeprefix("/dbfs")), -len(item[0])))

    def mapped(self, path: str) -> str | None:
        """The local path of `path`; None if no prefix covers it."""
        for prefix, local in self._mappings:
            for spelling in _spellings(path):
                rest = spelling.removeprefix(prefix)
                if spelling.startswith(prefix) and (not rest or rest.startswith("/")):
                    return _inside(local, rest, path)
        return None

    def local(self, path: str) -> str:
        """The local path of `path`; without a mapping ``file:/x`` and ``dbfs:/x`` are ``/x``."""
        mapped = self.mapped(path)
        if mapped is not None:
            return mapped
        for scheme in ("dbfs:", "file:"):
            if path.startswith(scheme):
                return "/" + path[len(scheme) :].lstrip("/")
        return path


def _canonical(path: str) -> str:
    """One spelling per scheme."""
    scheme, separator, rest = path.partition(":")
    if separator and rest.startswith("/"):
        if scheme == "file":
            return "/" + rest.lstrip("/")
        if scheme == "dbfs":
            return "/dbfs/" + rest.lstrip("/")
        if scheme in ("s3a", "s3n"):
            return f"s3:{rest}"
    return path


def _spellings(path: str) -> list[str]:
    """The ways one place may be spelled, the shortest first: ``/x``, ``/dbfs/x`` and ``dbfs:/x`` are one."""
    path = _canonical(path)
    if path == "/dbfs" or path.startswith("/dbfs/"):
        return [path.removeprefix("/dbfs") or "/", path]
    return [path, f"/dbfs{path}"] if path.startswith("/") else [path]


def _inside(root: str, rest: str, path: str) -> str:
    joined = os.path.normpath(os.path.join(root, rest.lstrip("/")))
    top = os.path.normpath(root)
    if joined != top and not joined.startswith(top.rstrip("/") + "/"):
        raise ValueError(f"`{path}` leads out of the folder that its prefix is mapped to")
    return joined


def _has(path: str, mode: str) -> bool:
    """Whether there is something to open: the file, or the folder of one to be written."""
    return os.path.exists(path if "r" in mode else os.path.dirname(path))


def install(places: Places) -> None:
    """Has ``open`` find mapped places, also for libraries that read files with it, such as pandas.

    A prefix as short as ``/`` covers files that libraries have of their own, too: a file that is here, and not where
    the mapping leads, is opened where it is; one to be written likewise, by the folder it is to lie in.
    """
    original = builtins.open

    def mapped_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, (str, os.PathLike)):
            name = os.fspath(file)
            if isinstance(name, str) and (":" in name or name.startswith("/")):
                mapped = places.mapped(name)
                if mapped is not None and (_has(mapped, mode) or not _has(name, mode)):
                    file = mapped
        return original(file, mode, *args, **kwargs)

    # Both names: modules that take the function from `io` must find it, too.
    builtins.open = mapped_open
    io.open = mapped_open
