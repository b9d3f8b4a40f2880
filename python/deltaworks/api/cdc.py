"""AUTO CDC: change data applied to a streaming table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deltaworks import graph, source
from deltaworks.api import arguments
from deltaworks.graph import Flow

if TYPE_CHECKING:
    from pyspark.sql import Column


def create_auto_cdc_flow(
    target: str,
    source: str,  # the name is the API's
    keys: list[str] | list[Column],
    sequence_by: str | Column,
    where: str | Column | None = None,
    ignore_null_updates: bool | None = False,
    apply_as_deletes: str | Column | None = None,
    apply_as_truncates: str | Column | None = None,
    column_list: list[str] | list[Column] | None = None,
    except_column_list: list[str] | list[Column] | None = None,
    stored_as_scd_type: int | str | None = 1,
    track_history_column_list: list[str] | list[Column] | None = None,
    track_history_except_column_list: list[str] | list[Column] | None = None,
    flow_name: str | None = None,
    once: bool | None = False,
    ignore_null_updates_column_list: list[str] | list[Column] | None = None,
    ignore_null_updates_except_column_list: list[str] | list[Column] | None = None,
    columns_to_update: str | Column | None = None,
    system_sequence_by: str | Column | None = None,
    name: str | None = None,
    *,
    spark_conf: dict[str, str] | None = None,
) -> None:
    """Applies the change records of `source` to the streaming table `target`."""
    _exclusive("column_list", column_list, "except_column_list", except_column_list)
    _exclusive(
        "ignore_null_updates_column_list",
        ignore_null_updates_column_list,
        "ignore_null_updates_except_column_list",
        ignore_null_updates_except_column_list,
    )
    scd_type = _scd_type(stored_as_scd_type)
    _check_history(scd_type, track_history_column_list, track_history_except_column_list)
    key_columns = arguments.columns("keys", keys)
    if not key_columns:
        raise ValueError("keys must name at least one column")
    changes: dict[str, Any] = {
        "source": arguments.string("source", source),
        "keys": key_columns,
        "sequence_by": arguments.column("sequence_by", sequence_by),
        "apply_as_deletes": _optional("apply_as_deletes", apply_as_deletes),
        "apply_as_truncates": _optional("apply_as_truncates", apply_as_truncates),
        "column_list": arguments.columns("column_list", column_list),
        "except_column_list": arguments.columns("except_column_list", except_column_list),
        "stored_as_scd_type": scd_type,
        "track_history_column_list": arguments.columns("track_history_column_list", track_history_column_list),
        "track_history_except_column_list": arguments.columns(
            "track_history_except_column_list", track_history_except_column_list
        ),
        "ignore_null_updates_column_list": arguments.columns(
            "ignore_null_updates_column_list", ignore_null_updates_column_list
        ),
        "ignore_null_updates_except_column_list": arguments.columns(
            "ignore_null_updates_except_column_list", ignore_null_updates_except_column_list
        ),
        "where": _optional("where", where),
        "ignore_null_updates": bool(ignore_null_updates),
        "columns_to_update": _optional("columns_to_update", columns_to_update),
        "system_sequence_by": _optional("system_sequence_by", system_sequence_by),
    }
    given = arguments.optional_string("name", name) or arguments.optional_string("flow_name", flow_name)
    _add(target, given, arguments.settings("spark_conf", spark_conf), bool(once), changes)


apply_changes = create_auto_cdc_flow


def create_auto_cdc_from_snapshot_flow(
    target: str,
    source: str | Callable[[Any], Any] | None = None,
    keys: list[str] | list[Column] | None = None,
    stored_as_scd_type: int | str | None = 1,
    track_history_column_list: list[str] | list[Column] | None = None,
    track_history_except_column_list: list[str] | list[Column] | None = None,
    *,
    snapshot_and_version: Callable[[Any], Any] | None = None,
    name: str | None = None,
) -> None:
    """Applies the differences between the snapshots of `source` to the streaming table `target`."""
    origin = source if source is not None else snapshot_and_version
    if origin is None or not (isinstance(origin, str) or callable(origin)):
        raise arguments.type_error("source", "str or Callable", origin)
    scd_type = _scd_type(stored_as_scd_type)
    _check_history(scd_type, track_history_column_list, track_history_except_column_list)
    key_names = _names("keys", keys)
    if not key_names:
        raise ValueError("keys must name at least one column")
    details: dict[str, Any] = {"keys": key_names, "stored_as_scd_type": scd_type}
    if isinstance(origin, str):
        details["source"] = origin
    for argument, value in (
        ("track_history_column_list", track_history_column_list),
        ("track_history_except_column_list", track_history_except_column_list),
    ):
        if value:
            details[argument] = _names(argument, value)
    flow = Flow(
        name=arguments.optional_string("name", name) or arguments.string("target", target),
        target=arguments.string("target", target),
        location=_caller(),
        snapshots=None if isinstance(origin, str) else origin,
        extension={"snapshot_cdc": details},
    )
    graph.active().flows.append(flow)


apply_changes_from_snapshot = create_auto_cdc_from_snapshot_flow


def _caller() -> graph.Location:
    return source.caller()


def _add(target: str, name: str | None, spark_conf: dict[str, str], once: bool, changes: dict[str, Any]) -> None:
    arguments.string("target", target)
    flow = Flow(
        name=name or target,
        target=target,
        location=_caller(),
        spark_conf=spark_conf,
        once=once,
        auto_cdc=changes,
    )
    graph.active().flows.append(flow)


def _optional(name: str, value: object) -> str | Column | None:
    return None if value is None else arguments.column(name, value)


def _names(argument: str, values: object) -> list[str]:
    """Column names, of strings and of plain columns."""
    names = []
    for value in arguments.columns(argument, values) or []:
        if not isinstance(value, str):
            value = getattr(getattr(value, "_expr", None), "_unparsed_identifier", None)
        if not isinstance(value, str):
            raise ValueError(f"{argument} must hold names or plain columns")
        names.append(value)
    return names


def _scd_type(value: object) -> str:
    if value is None:
        return "1"
    if isinstance(value, bool) or str(value) not in ("1", "2", "bitemporal"):
        raise arguments.type_error("stored_as_scd_type", "Literal[1, 2, '1', '2']", value)
    return str(value)


def _exclusive(first: str, first_value: object, second: str, second_value: object) -> None:
    if first_value and second_value:
        from pyspark.errors import PySparkValueError

        raise PySparkValueError(errorClass="CANNOT_SET_TOGETHER", messageParameters={"arg_list": f"{first}, {second}"})


def _check_history(scd_type: str, included: object, excluded: object) -> None:
    _exclusive("track_history_column_list", included, "track_history_except_column_list", excluded)
    if scd_type == "1" and (included or excluded):
        raise ValueError("track_history_column_list and track_history_except_column_list need stored_as_scd_type=2")
