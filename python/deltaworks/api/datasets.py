"""Decorators and calls that define tables and views."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deltaworks import graph, source
from deltaworks.api import arguments
from deltaworks.api.expectations import from_constraints
from deltaworks.graph import Flow, Output, OutputKind

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

Function = Callable[..., Any]


def table(
    query_function: Function | None = None,
    *,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
    table_properties: dict[str, str] | None = None,
    partition_cols: list[str] | None = None,
    cluster_by: list[str] | None = None,
    cluster_by_auto: bool = False,
    path: str | None = None,
    schema: StructType | str | None = None,
    temporary: bool = False,
    private: bool = False,
    row_filter: str | None = None,
    replace_using: list[str] | None = None,
    sequence_by: str | None = None,
    format: str | None = None,
) -> Any:
    """Defines a streaming table or a materialized view, whichever the query returns."""
    stored = _stored(table_properties, partition_cols, cluster_by, schema, format)
    extension = _extension(cluster_by_auto, path, temporary or private, row_filter)
    extension["kind_by_query"] = True
    flow: dict[str, Any] = {}
    if replace_using:
        flow = {"mode": "replace", "replace_using": arguments.strings("replace_using", replace_using)}
        if sequence_by is not None:
            raise NotImplementedError("sequence_by of a replace-using table is not supported yet")
    define = _definer("table", name, comment, spark_conf, stored, extension, flow)
    return arguments.decorator("table", query_function, define)


def materialized_view(
    query_function: Function | None = None,
    *,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
    table_properties: dict[str, str] | None = None,
    partition_cols: list[str] | None = None,
    cluster_by: list[str] | None = None,
    cluster_by_auto: bool = False,
    path: str | None = None,
    schema: StructType | str | None = None,
    temporary: bool = False,
    private: bool = False,
    row_filter: str | None = None,
    refresh_policy: str | None = None,
    format: str | None = None,
) -> Any:
    """Defines a materialized view."""
    stored = _stored(table_properties, partition_cols, cluster_by, schema, format)
    extension = _extension(cluster_by_auto, path, temporary or private, row_filter)
    if refresh_policy is not None:
        allowed = ("auto", "incremental", "incremental_strict", "full")
        if refresh_policy not in allowed:
            raise ValueError(f"refresh_policy must be one of {', '.join(allowed)}, got {refresh_policy!r}")
        extension["refresh_policy"] = refresh_policy
    define = _definer("materialized_view", name, comment, spark_conf, stored, extension, {})
    return arguments.decorator("materialized_view", query_function, define)


def temporary_view(
    query_function: Function | None = None,
    *,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
) -> Any:
    """Defines a view: computed where it is read, not stored."""
    define = _definer("temporary_view", name, comment, spark_conf, {}, {}, {})
    return arguments.decorator("temporary_view", query_function, define)


def view(
    query_function: Function | None = None,
    *,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
) -> Any:
    """As `temporary_view`."""
    define = _definer("temporary_view", name, comment, spark_conf, {}, {}, {})
    return arguments.decorator("view", query_function, define)


def create_streaming_table(
    name: str,
    *,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
    table_properties: dict[str, str] | None = None,
    partition_cols: list[str] | None = None,
    cluster_by: list[str] | None = None,
    cluster_by_auto: bool = False,
    path: str | None = None,
    schema: StructType | str | None = None,
    row_filter: str | None = None,
    expect_all: dict[str, Any] | None = None,
    expect_all_or_drop: dict[str, Any] | None = None,
    expect_all_or_fail: dict[str, Any] | None = None,
    temporary: bool = False,
    private: bool = False,
    format: str | None = None,
) -> None:
    """Defines an empty streaming table, for flows and AUTO CDC to write to."""
    output = _target(
        name,
        comment=comment,
        spark_conf=spark_conf,
        table_properties=table_properties,
        partition_cols=partition_cols,
        cluster_by=cluster_by,
        cluster_by_auto=cluster_by_auto,
        path=path,
        schema=schema,
        row_filter=row_filter,
        private=temporary or private,
        format=format,
    )
    output.expectations += from_constraints("expect_all", expect_all, "warn")
    output.expectations += from_constraints("expect_all_or_drop", expect_all_or_drop, "drop")
    output.expectations += from_constraints("expect_all_or_fail", expect_all_or_fail, "fail")
    graph.active().add_output(output)


def _target(
    name: str,
    *,
    comment: str | None = None,
    spark_conf: dict[str, str] | None = None,
    table_properties: dict[str, str] | None = None,
    partition_cols: list[str] | None = None,
    cluster_by: list[str] | None = None,
    cluster_by_auto: bool = False,
    path: str | None = None,
    schema: StructType | str | None = None,
    row_filter: str | None = None,
    temporary: bool = False,
    private: bool = False,
    format: str | None = None,
) -> Output:
    # The settings of a table without a query of its own apply to nothing, but must be well-formed.
    arguments.settings("spark_conf", spark_conf)
    return Output(
        name=arguments.string("name", name),
        kind="table",
        location=source.caller(),
        comment=arguments.optional_string("comment", comment),
        extension=_extension(cluster_by_auto, path, temporary or private, row_filter),
        **_stored(table_properties, partition_cols, cluster_by, schema, format),
    )


def create_target_table(name: str, **options: Any) -> None:
    """Deprecated name of `create_streaming_table`."""
    arguments.deprecated("create_target_table", "create_streaming_table")
    create_streaming_table(name, **options)


def create_streaming_live_table(name: str, **options: Any) -> None:
    """Deprecated name of `create_streaming_table`."""
    arguments.deprecated("create_streaming_live_table", "create_streaming_table")
    create_streaming_table(name, **options)


def create_table(query_function: Any = None, *, name: str | None = None, **options: Any) -> Any:
    """Deprecated name of `table`; `create_table(name="t")`, not applied to a function, defines an empty table."""
    if isinstance(query_function, str):
        return create_streaming_table(query_function, **options)
    if query_function is None and name is not None:
        if _OF_TARGETS & options.keys():
            return create_streaming_table(name, **options)
        if not _OF_QUERIES & options.keys():
            return _table_or_target(name, options)
    arguments.deprecated("create_table", "table")
    return table(query_function, name=name, **options)


# What only a table without a query of its own can be given, and only one with a query.
_OF_TARGETS = {"expect_all", "expect_all_or_drop", "expect_all_or_fail"}
_OF_QUERIES = {"replace_using", "sequence_by"}


def _table_or_target(name: str, options: dict[str, Any]) -> Callable[[Function], Function]:
    """An empty table, until the result is applied to a function, which then is the table's query."""
    target = _target(name, **options)
    decorate = table(name=name, **options)
    active = graph.active()
    active.add_output(target)

    def apply(function: Function) -> Function:
        active.remove_output(target)
        arguments.deprecated("create_table", "table")
        decorated: Function = decorate(function)
        return decorated

    return apply


def create_view(query_function: Function | None = None, **options: Any) -> Any:
    """Deprecated name of `view`."""
    arguments.deprecated("create_view", "view")
    return view(query_function, **options)


def _stored(
    table_properties: object, partition_cols: object, cluster_by: object, schema: object, format: object
) -> dict[str, Any]:
    from pyspark.sql.types import StructType

    if schema is not None and not isinstance(schema, (str, StructType)):
        raise arguments.type_error("schema", "StructType or str", schema)
    return {
        "table_properties": arguments.settings("table_properties", table_properties),
        "partition_cols": arguments.strings("partition_cols", partition_cols),
        "cluster_by": arguments.strings("cluster_by", cluster_by),
        "schema": schema,
        "format": arguments.optional_string("format", format),
    }


def _extension(cluster_by_auto: bool, path: object, private: bool, row_filter: object) -> dict[str, Any]:
    extension: dict[str, Any] = {}
    if cluster_by_auto:
        extension["cluster_by_auto"] = True
    if path is not None:
        extension["path"] = arguments.string("path", path)
    if private:
        extension["private"] = True
    if row_filter is not None:
        extension["row_filter"] = arguments.string("row_filter", row_filter)
    return extension


def _definer(
    kind: OutputKind,
    name: str | None,
    comment: str | None,
    spark_conf: dict[str, str] | None,
    stored: dict[str, Any],
    extension: dict[str, Any],
    flow_extension: dict[str, Any],
) -> Callable[[Function], Function]:
    conf = arguments.settings("spark_conf", spark_conf)
    arguments.optional_string("name", name)
    arguments.optional_string("comment", comment)
    location = source.caller()

    def define(function: Function) -> Function:
        resolved = arguments.name_of(function, name)
        active = graph.active()
        output = Output(
            name=resolved, kind=kind, location=location, comment=comment, extension=dict(extension), **stored
        )
        active.add_output(output, function)
        active.flows.append(
            Flow(resolved, resolved, location, function=function, spark_conf=conf, extension=dict(flow_extension))
        )
        return function

    return define
