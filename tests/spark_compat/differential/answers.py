"""What a session answers to a query, in a form that can be compared and kept."""

from __future__ import annotations

import datetime
import decimal
import json
from typing import Any


def answer(spark: Any, sql: str, *, unordered: bool = False) -> dict[str, Any]:
    """Name and type of the first column and its values, or the condition of the error.

    Rows in no order are put into one that does not depend on the last digits of numbers.
    """
    try:
        frame = spark.sql(sql)
        fields = frame.schema.fields
        if not fields:
            return {"name": "", "type": "", "rows": []}
        field = fields[0]
        rows = [shown(row[0]) for row in frame.collect()]
    except Exception as error:
        return {"error": condition(error)}
    if unordered:
        rows.sort(key=lambda row: json.dumps(rounded(row), sort_keys=True))
    return {"name": field.name, "type": field.dataType.simpleString(), "rows": rows}


def rounded(value: Any) -> Any:
    """The value with floating-point numbers of nine digits."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, str) and value.endswith("f"):
        try:
            return f"{float(value[:-1]):.9g}"
        except ValueError:
            return value
    return value


def condition(error: Exception) -> str:
    """Spark's name of an error; what is none of Spark's is of the client that shows the value."""
    get = getattr(error, "getCondition", None) or getattr(error, "getErrorClass", None)
    found = get() if get else None
    return found or f"client: {type(error).__name__}"


def shown(value: Any) -> Any:
    """A value as JSON that two runs write alike."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return f"{value!r}f"
    if isinstance(value, decimal.Decimal):
        return f"{value}d"
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return {"microseconds": value // datetime.timedelta(microseconds=1)}
    if isinstance(value, dict):
        return {"map": sorted(([shown(key), shown(item)] for key, item in value.items()), key=str)}
    if hasattr(value, "asDict"):
        return {"row": [[name, shown(item)] for name, item in zip(value.__fields__, value, strict=True)]}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return str(value)
