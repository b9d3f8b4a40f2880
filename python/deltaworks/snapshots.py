"""Functions that give the snapshots of a flow one after the other, each with its version."""

from __future__ import annotations

import datetime
import decimal
import functools
import inspect
import math
import numbers
import operator
from typing import TYPE_CHECKING, Any

from deltaworks.graph import Location

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)
# Spark's type of a Python Decimal.
_DECIMAL_SCALE, _DECIMAL_DIGITS = 18, 38


class SnapshotError(Exception):
    """What a function returned is not a snapshot with a version."""

    def __init__(self, condition: str, message: str) -> None:
        super().__init__(message)
        self._errorClass = f"APPLY_CHANGES_FROM_SNAPSHOT_ERROR.{condition}"


def call(function: Callable[[Any], Any], latest: dict[str, Any] | None) -> tuple[Any, dict[str, Any]] | None:
    """The snapshot after the version `latest`, and its own version; None if there is none yet."""
    returned = function(None if latest is None else decode(latest))
    if returned is None:
        return None
    if not isinstance(returned, tuple) or len(returned) != 2:
        what = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else f"'{type(returned).__name__}'"
        raise SnapshotError("INVALID_SNAPSHOT", f"{what}, but must return a tuple (DataFrame, version), or None")
    frame, version = returned
    if frame is None:
        return None
    if version is None:
        raise SnapshotError("NULL_SNAPSHOT_VERSION", "a DataFrame with None as its version")
    if hasattr(frame, "to_spark") and not hasattr(frame, "_plan"):
        frame = frame.to_spark()
    if not hasattr(frame, "_plan"):
        raise SnapshotError("INVALID_SNAPSHOT", f"'{type(frame).__name__}' where the DataFrame of a snapshot must be")
    return frame, encode(version)


def origin(function: Callable[[Any], Any]) -> tuple[str, Location | None]:
    """The name of a function, and where it is defined if it is defined in Python."""
    found: Any = inspect.unwrap(function)
    while isinstance(found, functools.partial):
        found = inspect.unwrap(found.func)
    code = getattr(found, "__code__", None) or getattr(type(found).__call__, "__code__", None)
    name = getattr(found, "__name__", type(found).__name__)
    return name, Location(code.co_filename, code.co_firstlineno) if code else None


def encode(version: object) -> dict[str, Any]:
    """A version with its type in SQL, as text."""
    if isinstance(version, numbers.Integral) and not isinstance(version, bool):
        number = operator.index(version)
        if -(2**63) <= number < 2**63:
            return {"type": "bigint", "value": str(number)}
    elif isinstance(version, float) and math.isfinite(version):
        return {"type": "double", "value": repr(float(version))}
    elif isinstance(version, decimal.Decimal) and version.is_finite() and _fits(version):
        return {"type": "decimal", "value": format(version, "f")}
    elif isinstance(version, str):
        return {"type": "string", "value": str(version)}
    elif isinstance(version, (bytes, bytearray)):
        return {"type": "binary", "value": version.hex()}
    elif isinstance(version, datetime.datetime):
        # As everywhere in PySpark, a time without a zone is one of this machine's.
        since = version.astimezone(datetime.timezone.utc) - _EPOCH
        return {"type": "timestamp", "value": str(since // _MICROSECOND), "local": version.tzinfo is None}
    elif isinstance(version, datetime.date):
        return {"type": "date", "value": version.isoformat()}
    raise SnapshotError(
        "INVALID_SNAPSHOT_VERSION_TYPE",
        f"the version {version!r} of type '{type(version).__name__}'; a version is an int of 64 bits, a finite float, "
        f"a Decimal of {_DECIMAL_DIGITS} digits, {_DECIMAL_SCALE} of them after the point, a str, bytes, a date "
        "or a datetime",
    )


def _fits(version: decimal.Decimal) -> bool:
    exponent = version.as_tuple().exponent
    whole = _DECIMAL_DIGITS - _DECIMAL_SCALE
    return isinstance(exponent, int) and exponent >= -_DECIMAL_SCALE and version.adjusted() < whole


def decode(version: dict[str, Any]) -> Any:
    """The version as the function returned it."""
    kind, value = version["type"], version["value"]
    if kind == "bigint":
        return int(value)
    if kind == "double":
        return float(value)
    if kind == "decimal":
        return decimal.Decimal(value)
    if kind == "binary":
        return bytes.fromhex(value)
    if kind == "date":
        return datetime.date.fromisoformat(value)
    if kind == "timestamp":
        at = _EPOCH + int(value) * _MICROSECOND
        return at.astimezone().replace(tzinfo=None) if version.get("local") else at
    return value
