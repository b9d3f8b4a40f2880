"""The pipeline API: what ``import dlt`` and ``from pyspark import pipelines`` give.

Both names lead to this one module, so that old and new vocabulary mix freely, as they do in real
pipelines.
"""

from deltaworks.api.cdc import (
    apply_changes,
    apply_changes_from_snapshot,
    create_auto_cdc_flow,
    create_auto_cdc_from_snapshot_flow,
)
from deltaworks.api.datasets import (
    create_streaming_live_table,
    create_streaming_table,
    create_table,
    create_target_table,
    create_view,
    materialized_view,
    table,
    temporary_view,
    view,
)
from deltaworks.api.expectations import (
    expect,
    expect_all,
    expect_all_or_drop,
    expect_all_or_fail,
    expect_or_drop,
    expect_or_fail,
)
from deltaworks.api.flows import append_flow, replace_flow, update_flow
from deltaworks.api.reading import read, read_stream, readStream
from deltaworks.api.sinks import create_sink, foreach_batch_sink, on_event_hook


def enable_local_execution() -> None:
    """Does nothing: exists in Databricks' stub of ``dlt``, which does nothing without it."""


__all__ = [
    "append_flow",
    "apply_changes",
    "apply_changes_from_snapshot",
    "create_auto_cdc_flow",
    "create_auto_cdc_from_snapshot_flow",
    "create_sink",
    "create_streaming_live_table",
    "create_streaming_table",
    "create_table",
    "create_target_table",
    "create_view",
    "enable_local_execution",
    "expect",
    "expect_all",
    "expect_all_or_drop",
    "expect_all_or_fail",
    "expect_or_drop",
    "expect_or_fail",
    "foreach_batch_sink",
    "materialized_view",
    "on_event_hook",
    "read",
    "readStream",
    "read_stream",
    "replace_flow",
    "table",
    "temporary_view",
    "update_flow",
    "view",
]
