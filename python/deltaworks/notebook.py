"""Notebooks and their cells: Databricks' source format, Jupyter's, and plain files with magic lines."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from typing import Any, Literal

Language = Literal["python", "sql", "run"]

_SEPARATOR = re.compile(r"^\s*(#|--)\s*COMMAND\s*-{3,}\s*$")
_HEADER = re.compile(r"^\s*(#|--)\s*Databricks notebook source\s*$")
_MAGIC = re.compile(r"^\s*(#|--)\s?MAGIC ?(.*)$")
_TITLE = re.compile(r"^\s*(#|--)\s*DBTITLE\b")
_MAGIC_LINE = re.compile(r"^(\s*)(%[A-Za-z%]|!)")
# Text, and what neither defines datasets nor has a meaning outside of a notebook.
_NOT_RUN = (
    "md",
    "md-sandbox",
    "sh",
    "fs",
    "html",
    "scala",
    "r",
    "javascript",
    "%sql",
    "%html",
    "%markdown",
    "%bash",
    "%sh",
)


@dataclass(frozen=True)
class Cell:
    """Code of one language, or the path of a notebook to run; it begins on `line` of the file, from 1."""

    language: Language
    source: str
    line: int


def split(text: str) -> list[Cell]:
    """The cells of a source file; a file that is no notebook is one cell."""
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    header = _HEADER.match(first)
    default: Language = "sql" if header and header.group(1) == "--" else "python"
    cells: list[Cell] = []
    start = 0
    for end in [*(i for i, line in enumerate(lines) if _SEPARATOR.match(line)), len(lines)]:
        cells.extend(_cell(lines[start:end], start + 1, default))
        start = end + 1
    return cells


def split_jupyter(text: str) -> list[Cell]:
    """The code cells of an ``.ipynb`` file; lines count through the code of the cells."""
    notebook = json.loads(text)
    default = _jupyter_language(notebook)
    cells: list[Cell] = []
    line = 1
    for raw in notebook.get("cells", []):
        if raw.get("cell_type") != "code":
            continue
        source = raw.get("source", "")
        lines = (source if isinstance(source, str) else "".join(source)).splitlines()
        cells.extend(_cell(lines, line, default))
        line += len(lines)
    return cells


def jupyter_text(text: str) -> str:
    """The code of an ``.ipynb`` file, as its lines are counted."""
    return "\n".join(cell.source for cell in split_jupyter(text))


def _jupyter_language(notebook: dict[str, Any]) -> Language:
    metadata = notebook.get("metadata", {})
    databricks = metadata.get("application/vnd.databricks.v1+notebook", {})
    name = databricks.get("language") or metadata.get("language_info", {}).get("name") or "python"
    return "sql" if str(name).lower() == "sql" else "python"


def _cell(lines: list[str], line: int, default: Language) -> list[Cell]:
    """What a cell runs: nothing for text and shell cells."""
    lines = ["" if _HEADER.match(text) or _TITLE.match(text) else text for text in lines]
    meaningful = [text for text in lines if text.strip()]
    if not meaningful:
        return []
    if all(_MAGIC.match(text) for text in meaningful):
        lines = [match.group(2) if (match := _MAGIC.match(text)) else "" for text in lines]
        meaningful = [text for text in lines if text.strip()]
        if not meaningful:
            return []
    first = meaningful[0].strip()
    if not first.startswith("%"):
        return [Cell(default, _code(lines, default), line)]
    magic, _, rest = first.removeprefix("%").partition(" ")
    position = lines.index(meaningful[0])
    body = [""] * position + [rest, *lines[position + 1 :]]
    if magic.lower() == "sql":
        return [Cell("sql", "\n".join(body), line)]
    if magic.lower() == "python":
        return [Cell("python", _code(body, "python"), line)]
    if magic.lower() == "run":
        return [Cell("run", _notebook_path(rest), line + position)]
    if magic.lower() in _NOT_RUN:
        return []
    # %pip, %load_ext and the like take one line; what follows is code.
    return [Cell(default, _code(lines, default), line)]


def _notebook_path(rest: str) -> str:
    """The path of a %run line: the first word, or what is quoted; arguments set widgets in Databricks."""
    words = shlex.split(rest, comments=True)
    if not words:
        raise ValueError("%run needs the path of a notebook")
    if len(words) > 1:
        raise NotImplementedError(f"%run {rest.strip()}: arguments are not supported; use the pipeline's configuration")
    return words[0]


def find(path: str, runner: str) -> str:
    """The file of the notebook that `runner` names `path`: relative to itself, with or without a suffix."""
    stem = os.path.join(os.path.dirname(runner), path)
    for candidate in (stem, f"{stem}.py", f"{stem}.ipynb", f"{stem}.sql"):
        if os.path.isfile(candidate):
            return os.path.abspath(candidate)
    raise FileNotFoundError(f"%run {path}: no notebook `{os.path.normpath(stem)}` (.py, .ipynb, .sql)")


def _code(lines: list[str], language: Language) -> str:
    """Python without magic lines; the number of lines stays."""
    if language == "sql":
        return "\n".join(lines)
    return "\n".join(_without_magic(line) for line in lines)


def _without_magic(line: str) -> str:
    found = _MAGIC.match(line)
    if found:
        return ""
    match = _MAGIC_LINE.match(line)
    return f"{match.group(1)}pass" if match else line
