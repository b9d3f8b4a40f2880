"""Sends declarations to the engine as Spark Connect pipeline commands.

What the protocol has no field for goes as a ``google.protobuf.Struct``, packed into the
``source_code_location.extension`` list of the command (the protocol's own place for additions):

``DefineOutput``: ``{"output": {"expectations": [{"name", "condition": {"sql": text} | {"expression":
base64 of a spark.connect.Expression}, "action": "warn" | "drop" | "fail", "place": "file:line"}],
"private": bool, "path", "cluster_by_auto": bool, "row_filter", "refresh_policy", "kind_by_query": bool,
"foreach_batch": bool}}``

``DefineFlow``: ``{"flow": {"comment", "mode": "append" | "update" | "replace", "replace_using": [name],
"import_checkpoint", "waits_for": dataset, "auto_cdc": {"condition", "ignore_null_updates",
"columns_to_update", "system_sequence_by", "stored_as_scd_type", "track_history_column_list",
"track_history_except_column_list"}, "snapshot_cdc": {"source", "keys",
"stored_as_scd_type", "track_history_column_list", "track_history_except_column_list", "version"}}}``

All members are optional. The Rust side is ``connect::extension``.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pyspark.sql.connect.proto as pb2
from google.protobuf import any_pb2, struct_pb2

if TYPE_CHECKING:
    from pyspark.sql import Column
    from pyspark.sql.connect.client import SparkConnectClient

    from deltaworks.graph import Expectation, Flow, Location, Output
    from deltaworks.source import Paths

_TYPES = {
    "materialized_view": pb2.OutputType.MATERIALIZED_VIEW,
    "table": pb2.OutputType.TABLE,
    "temporary_view": pb2.OutputType.TEMPORARY_VIEW,
    "sink": pb2.OutputType.SINK,
}


class Registry:
    """The dataflow graph on the engine's side."""

    def __init__(self, client: SparkConnectClient, graph_id: str, paths: Paths) -> None:
        self.client = client
        self.graph_id = graph_id
        self._paths = paths

    def define_output(self, output: Output) -> None:
        """Defines a dataset or a sink."""
        extension = dict(output.extension)
        if output.expectations:
            extension["expectations"] = [self._expectation(item) for item in output.expectations]
        message = pb2.PipelineCommand.DefineOutput(
            dataflow_graph_id=self.graph_id,
            output_name=output.name,
            output_type=_TYPES[output.kind],
            comment=output.comment,
            source_code_location=self._location(output.location, "output", extension),
        )
        if output.kind == "sink":
            message.sink_details.options.update(output.options)
            if output.format is not None:
                message.sink_details.format = output.format
        elif output.kind != "temporary_view":
            self._table_details(message.table_details, output)
        command = pb2.Command()
        command.pipeline_command.define_output.CopyFrom(message)
        self.client.execute_command(command)

    def define_flow(
        self, flow: Flow, frame: Any | None, waits_for: str | None = None, version: dict[str, Any] | None = None
    ) -> None:
        """Defines a flow: with the frame its function returned, or with the dataset it waits for.

        The frame of a snapshot has a version.
        """
        extension = dict(flow.extension)
        if version is not None:
            extension["snapshot_cdc"] = {**extension["snapshot_cdc"], "version": version}
        if waits_for is not None:
            extension["waits_for"] = waits_for
        if flow.auto_cdc is not None:
            extension["auto_cdc"] = self._auto_cdc_extension(flow.auto_cdc)
        message = pb2.PipelineCommand.DefineFlow(
            dataflow_graph_id=self.graph_id,
            flow_name=flow.name,
            target_dataset_name=flow.target,
            sql_conf=dict(flow.spark_conf),
            source_code_location=self._location(flow.location, "flow", extension),
        )
        if flow.once:
            message.once = True
        if flow.auto_cdc is not None:
            message.auto_cdc_flow_details.CopyFrom(self._auto_cdc(flow.auto_cdc))
        elif frame is not None:
            message.relation_flow_details.relation.CopyFrom(frame._plan.plan(self.client))
        else:
            message.relation_flow_details.SetInParent()
        command = pb2.Command()
        command.pipeline_command.define_flow.CopyFrom(message)
        self.client.execute_command(command)

    def define_sql(self, text: str, path: str) -> None:
        """Defines what the SQL statements of a cell define."""
        command = pb2.Command()
        command.pipeline_command.define_sql_graph_elements.CopyFrom(
            pb2.PipelineCommand.DefineSqlGraphElements(
                dataflow_graph_id=self.graph_id, sql_file_path=path, sql_text=text
            )
        )
        self.client.execute_command(command)

    def _table_details(self, details: Any, output: Output) -> None:
        details.SetInParent()
        details.table_properties.update(output.table_properties)
        details.partition_cols.extend(output.partition_cols)
        details.clustering_columns.extend(output.cluster_by)
        if output.format is not None:
            details.format = output.format
        if isinstance(output.schema, str):
            details.schema_string = output.schema
        elif output.schema is not None:
            from pyspark.sql.connect.types import pyspark_types_to_proto_types

            details.schema_data_type.CopyFrom(pyspark_types_to_proto_types(output.schema))

    def _location(self, location: Location, key: str, extension: dict[str, Any]) -> pb2.SourceCodeLocation:
        message = pb2.SourceCodeLocation(file_name=self._paths.show(location.file), line_number=location.line)
        if extension:
            fields = struct_pb2.Struct()
            fields.update({key: extension})
            packed = any_pb2.Any()
            packed.Pack(fields)
            message.extension.append(packed)
        return message

    def _expectation(self, expectation: Expectation) -> dict[str, Any]:
        return {
            "name": expectation.name,
            "condition": self._condition(expectation.condition),
            "action": expectation.action,
            "place": f"{self._paths.show(expectation.location.file)}:{expectation.location.line}",
        }

    def _condition(self, condition: str | Column) -> dict[str, str]:
        if isinstance(condition, str):
            return {"sql": condition}
        return {"expression": base64.b64encode(self._expression(condition).SerializeToString()).decode()}

    def _expression(self, column: str | Column) -> Any:
        """The expression of a Column or of SQL text."""
        if isinstance(column, str):
            return pb2.Expression(expression_string=pb2.Expression.ExpressionString(expression=column))
        return column._expr.to_plan(self.client)

    def _name(self, column: str | Column) -> Any:
        """The expression of a Column or of a column's name."""
        if not isinstance(column, str):
            return self._expression(column)
        attribute = pb2.Expression.UnresolvedAttribute(unparsed_identifier=column)
        return pb2.Expression(unresolved_attribute=attribute)

    def _auto_cdc(self, changes: dict[str, Any]) -> Any:
        flow = pb2.PipelineCommand.DefineFlow
        details = flow.AutoCdcFlowDetails(source=changes["source"])
        details.keys.extend(self._name(key) for key in changes["keys"])
        for field in ("sequence_by", "apply_as_deletes", "apply_as_truncates"):
            if changes[field] is not None:
                getattr(details, field).CopyFrom(self._expression(changes[field]))
        for field in (
            "column_list",
            "except_column_list",
            "ignore_null_updates_column_list",
            "ignore_null_updates_except_column_list",
        ):
            getattr(details, field).extend(self._name(column) for column in changes[field] or [])
        # The protocol of Spark 4.2 knows no other type, nor whose history is tracked: those go as extensions.
        if changes["stored_as_scd_type"] == "1":
            details.stored_as_scd_type = flow.SCDType.SCD_TYPE_1
        return details

    def _auto_cdc_extension(self, changes: dict[str, Any]) -> dict[str, Any]:
        extension: dict[str, Any] = {}
        for field, key in (
            ("where", "condition"),
            ("columns_to_update", "columns_to_update"),
            ("system_sequence_by", "system_sequence_by"),
        ):
            if changes[field] is not None:
                extension[key] = self._condition(changes[field])
        if changes["ignore_null_updates"]:
            extension["ignore_null_updates"] = True
        for field in ("track_history_column_list", "track_history_except_column_list"):
            if changes[field]:
                extension[field] = [self._condition(column) for column in changes[field]]
        if changes["stored_as_scd_type"] != "1":
            extension["stored_as_scd_type"] = changes["stored_as_scd_type"]
        return extension
