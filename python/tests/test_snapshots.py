"""Versions of snapshots, and where the functions that give them stand."""

from __future__ import annotations

import datetime
import decimal
import functools
from typing import Any

import pytest
from deltaworks import snapshots

UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    "version",
    [
        7,
        -(2**63),
        0.1,
        decimal.Decimal("10.250"),
        "2024-01",
        b"\x00\xff",
        datetime.date(2024, 1, 1),
        datetime.datetime(2024, 7, 1, 12, 30, 0, 5),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    ],
)
def test_a_version_comes_back_as_it_was(version: Any) -> None:
    back = snapshots.decode(snapshots.encode(version))
    assert back == version and type(back) is type(version)


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    version = datetime.datetime(2024, 1, 1, 2, tzinfo=zone)
    assert snapshots.encode(version) == {"type": "timestamp", "value": "1704067200000000", "local": False}
    assert snapshots.decode(snapshots.encode(version)) == version


def test_what_has_no_order_is_no_version() -> None:
    too_exact = decimal.Decimal("1e-19")
    for version in (True, 2**63, float("nan"), decimal.Decimal("NaN"), too_exact, (1, 2), {"v": 1}):
        with pytest.raises(snapshots.SnapshotError) as raised:
            snapshots.encode(version)
        assert raised.value._errorClass == "APPLY_CHANGES_FROM_SNAPSHOT_ERROR.INVALID_SNAPSHOT_VERSION_TYPE"


def test_functions_are_found_where_they_are_defined() -> None:
    def plain(latest: Any, folder: str = "") -> None: ...

    @functools.wraps(plain)
    def wrapped(latest: Any) -> None: ...

    class Callable:
        def __call__(self, latest: Any) -> None: ...

    name, place = snapshots.origin(plain)
    assert (name, place and place.file) == ("plain", __file__)
    assert snapshots.origin(functools.partial(plain, folder="x")) == (name, place)
    assert snapshots.origin(wrapped) == (name, place)
    assert snapshots.origin(Callable())[0] == "Callable"
    assert snapshots.origin(lambda latest: None)[0] == "<lambda>"


def test_the_end_is_none_or_a_tuple_without_a_frame() -> None:
    assert snapshots.call(lambda latest: None, None) is None
    assert snapshots.call(lambda latest: (None, latest), {"type": "bigint", "value": "3"}) is None
