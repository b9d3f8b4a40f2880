"""Where in the user's source something stands, and tracebacks without our own frames."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

from deltaworks.graph import Location

if TYPE_CHECKING:
    from types import FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_FOREIGN_PACKAGES = ("pyspark", "grpc", "google", "py4j")
_FOREIGN_PATHS = tuple(f"{os.sep}{name}{os.sep}" for name in _FOREIGN_PACKAGES)


def is_users(filename: str) -> bool:
    """Whether a frame of this file is the user's code, not ours, PySpark's or the interpreter's."""
    if filename.startswith(_PACKAGE) or filename.startswith("<frozen "):
        return False
    in_packages = f"{os.sep}site-packages{os.sep}" in filename
    return not (in_packages and any(part in filename for part in _FOREIGN_PATHS))


def caller() -> Location:
    """The nearest line of the user's code on the stack."""
    frame: FrameType | None = sys._getframe(1)
    last = frame
    while frame is not None:
        if is_users(frame.f_code.co_filename) and not _is_standard_library(frame):
            return Location(frame.f_code.co_filename, frame.f_lineno)
        last, frame = frame, frame.f_back
    return Location(last.f_code.co_filename if last else "<unknown>", 0)


def _is_standard_library(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(os.path.dirname(os.__file__) + os.sep) and (
        f"{os.sep}site-packages{os.sep}" not in frame.f_code.co_filename
    )


class Paths:
    """How the user knows the files."""

    def __init__(self, root: str) -> None:
        self._root = os.path.join(os.path.abspath(root), "")
        self._shown: dict[str, str] = {}

    def add(self, path: str, shown: str) -> None:
        """Shows `path` as `shown`."""
        self._shown[path] = shown

    def show(self, path: str) -> str:
        """The name to show: as given, or relative to the pipeline's folder."""
        if path in self._shown:
            return self._shown[path]
        return path.removeprefix(self._root)


def describe(error: BaseException, paths: Paths) -> tuple[str, Location | None]:
    """The traceback of the user's own lines, and the innermost of them."""
    summary = traceback.TracebackException.from_exception(error, compact=True)
    location = _trim(summary, paths)
    return "".join(summary.format()).rstrip(), location


def _trim(summary: traceback.TracebackException, paths: Paths) -> Location | None:
    location = None
    kept = []
    for frame in summary.stack:
        if not is_users(frame.filename):
            continue
        shown = paths.show(frame.filename)
        kept.append(traceback.FrameSummary(shown, frame.lineno, frame.name, lookup_line=False, line=frame.line))
        if not frame.filename.startswith(os.path.dirname(os.__file__) + os.sep):
            location = Location(shown, frame.lineno or 0)
    summary.stack = traceback.StackSummary.from_list(kept)
    filename = getattr(summary, "filename", None)
    if isinstance(filename, str):
        shown = paths.show(filename)
        location = Location(shown, int(summary.lineno or 0))
        summary.filename = shown
    for inner in (summary.__cause__, summary.__context__):
        if inner is not None:
            found = _trim(inner, paths)
            location = location or found
    return location
