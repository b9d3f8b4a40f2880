"""The stock client starts without pandas, PyArrow and NumPy, and has them when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(folder: Path, code: str) -> list[str]:
    # A file, because the client takes `python -c` for its own doctests.
    program = folder / "program.py"
    program.write_text(code)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


START = """
import sys
from deltaworks.postpone import postponed
with postponed():
    import pyspark.sql.connect.session as client
"""


def test_pandas_is_loaded_at_its_first_use(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        START
        + """
print([name for name in sys.modules if name.split(".")[0] == "pandas"])
stamp = client.pd.Timestamp("2026-01-31")
import pandas
print(type(stamp) is pandas.Timestamp, client.pd.DataFrame is pandas.DataFrame)
print(client.is_datetime64_dtype(pandas.Series([stamp])))
""",
    )
    assert printed == ["[]", "True True", "True"]


def test_types_of_what_is_not_loaded_have_no_values(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        START
        + """
def loaded():
    return [name for name in ("numpy", "pandas", "pyarrow") if name in sys.modules]

from pyspark.sql import functions as F
from pyspark.sql.types import LongType
from pyspark.sql.connect.expressions import LiteralExpression
print(LiteralExpression(1, LongType()), LiteralExpression._from_value("a"), loaded())
import numpy
print(LiteralExpression._from_value(numpy.int16(2))._dataType, LiteralExpression(numpy.int64(3), LongType()))
print(client.np.ndarray is numpy.ndarray, loaded())
import pyarrow
print(client.pa.Table is pyarrow.Table, client.pa.table({"a": [1]}).num_rows)
""",
    )
    assert printed == ["1 a []", "ShortType() 3", "True ['numpy']", "True 1"]


def test_types_of_what_is_not_loaded_make_values(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        START
        + """
print(client.pa.Table.from_pydict({"a": [1, 2]}).num_rows)
print(client.pd.DataFrame({"a": [1]}).shape, isinstance(1, client.pd.DataFrame))
""",
    )
    assert printed == ["2", "(1, 1) False"]
    of_intervals = """
import datetime
from pyspark.sql.connect.expressions import LiteralExpression
print(LiteralExpression._from_value(datetime.timedelta(hours=1)))
"""
    assert run(tmp_path, START + of_intervals) == ["P0DT1H0M0S"]


def test_users_import_pandas_and_its_modules_as_ever(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        START
        + """
import pandas.testing
from pandas.api.types import is_integer_dtype
pandas.testing.assert_frame_equal(pandas.DataFrame({"a": [1]}), client.pd.DataFrame({"a": [1]}))
print(is_integer_dtype(pandas.Series([1])), type(sys.modules["pandas"]).__name__)
""",
    )
    assert printed == ["True module"]


def test_a_loaded_pandas_stays(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        """
import pandas
from deltaworks.postpone import postponed
with postponed():
    import pandas as within
print(within is pandas)
""",
    )
    assert printed == ["True"]
