"""Tracebacks show the user's lines only."""

from __future__ import annotations

import linecache

from deltaworks import api, graph
from deltaworks.source import Paths, describe

USER = """\
import deltaworks.api as dlt


def define():
    dlt.table("not a function")


define()
"""


def test_our_frames_are_left_out() -> None:
    path = "/pipeline/files/user.py"
    linecache.cache[path] = (len(USER), None, USER.splitlines(True), path)
    paths = Paths("/pipeline")
    paths.add(path, "files/user.py")
    try:
        with graph.activate(graph.Graph()):
            exec(compile(USER, path, "exec"), {})
    except RuntimeError as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        text, location = describe(error, paths)
    assert location == graph.Location("files/user.py", 5)
    assert 'dlt.table("not a function")' in text
    assert "deltaworks/api" not in text
    assert api.__file__ not in text


def test_syntax_errors_have_their_line() -> None:
    path = "/pipeline/bad.py"
    try:
        compile("x = 1\ny = (\n", path, "exec")
    except SyntaxError as error:
        _, location = describe(error, Paths("/pipeline"))
    assert location is not None
    assert (location.file, location.line) == ("bad.py", 2)
