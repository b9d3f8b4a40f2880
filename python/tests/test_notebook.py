"""Cells of notebooks and their lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltaworks.notebook import Cell, find, split, split_jupyter

NOTEBOOK = """\
# Databricks notebook source
import dlt

# COMMAND ----------

# MAGIC %md
# MAGIC ## Title

# COMMAND ----------

# MAGIC %sql
# MAGIC CREATE OR REFRESH MATERIALIZED VIEW v AS SELECT 1

# COMMAND ----------

# MAGIC %pip install x

# COMMAND ----------

# DBTITLE 1,Table
%pip install y
x = 10 % 3
"""


def test_plain_files_are_one_cell() -> None:
    assert split("a = 1\n%pip install x\nb = 2\n") == [Cell("python", "a = 1\npass\nb = 2", 1)]


def test_notebooks_are_split_at_command_lines() -> None:
    cells = [cell for cell in split(NOTEBOOK) if cell.source.strip() not in ("", "pass")]
    assert [(cell.language, cell.line) for cell in cells] == [("python", 1), ("sql", 10), ("python", 19)]
    assert "CREATE OR REFRESH" in cells[1].source
    assert cells[2].source.splitlines() == ["", "", "pass", "x = 10 % 3"]


def test_sql_notebooks_hold_python_cells() -> None:
    text = "-- Databricks notebook source\nSELECT 1\n-- COMMAND ----------\n-- MAGIC %python\n-- MAGIC x = 1\n"
    cells = split(text)
    assert [(cell.language, cell.source.strip()) for cell in cells] == [("sql", "SELECT 1"), ("python", "x = 1")]


def test_jupyter_cells_have_a_language() -> None:
    notebook = {
        "metadata": {"application/vnd.databricks.v1+notebook": {"language": "sql"}},
        "cells": [
            {"cell_type": "markdown", "source": ["# x"]},
            {"cell_type": "code", "source": ["CREATE VIEW v\n", "AS SELECT 1"]},
            {"cell_type": "code", "source": "%python\nx = 1"},
        ],
    }
    cells = split_jupyter(json.dumps(notebook))
    assert cells == [Cell("sql", "CREATE VIEW v\nAS SELECT 1", 1), Cell("python", "\nx = 1", 3)]


def test_notebooks_run_others() -> None:
    cells = split("# Databricks notebook source\n# MAGIC %run ./other\n\n# COMMAND ----------\nx = 1")
    assert cells[0] == Cell("run", "./other", 2)
    assert split('%run "./with space"  # comment') == [Cell("run", "./with space", 1)]
    with pytest.raises(NotImplementedError, match="arguments"):
        split("# MAGIC %run ./other $x=1")
    with pytest.raises(ValueError, match="needs the path"):
        split("# MAGIC %run")


def test_notebooks_are_found_beside_the_one_that_runs_them(tmp_path: Path) -> None:
    for name in ("a.py", "b.ipynb", "folder/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    runner = str(tmp_path / "folder" / "c.py")
    assert find("../a", runner) == str(tmp_path / "a.py")
    assert find("../b.ipynb", runner) == str(tmp_path / "b.ipynb")
    with pytest.raises(FileNotFoundError, match="no notebook"):
        find("./a", runner)
