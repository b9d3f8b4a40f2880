"""The connection to the engine, and what user code expects to find around it."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deltaworks.postpone import postponed

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_READY = "DELTAWORKS_DATASET_NOT_READY"
_NOT_MATERIALIZED = "DELTAWORKS_DATASET_NOT_MATERIALIZED"


class Waiting(BaseException):
    """A query function needs a dataset that is not there yet.

    Not an ``Exception``: user code that catches those must not take it for a failure.
    """

    def __init__(self, dataset: str) -> None:
        super().__init__(dataset)
        self.dataset = dataset


class DatasetNotReady(Waiting):
    """The schema of the dataset is not known yet."""


class DatasetNotMaterialized(Waiting):
    """The rows of the dataset are not computed yet."""


def connect() -> Any:
    """The session, as stock PySpark makes it; also what ``SparkSession.builder`` will find.

    The engine has its settings.
    """
    remote = os.environ["DELTAWORKS_REMOTE"]
    token = os.environ.pop("DELTAWORKS_TOKEN", None)
    if token is not None:
        os.environ["SPARK_CONNECT_AUTHENTICATE_TOKEN"] = token
    os.environ["SPARK_REMOTE"] = remote
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    with postponed():
        from pyspark.sql.connect.session import SparkSession

    spark = SparkSession.builder.remote(remote).getOrCreate()
    # The engine is on this machine. What lets an execution outlive its connection takes a second request each time.
    spark.client.disable_reattachable_execute()
    return spark


def raise_waiting(spark: Any) -> None:
    """Lets the client raise `Waiting` where the engine says that a dataset is not there yet."""
    client = spark.client
    handle_error = client._handle_error

    def handle(error: Exception) -> None:
        try:
            handle_error(error)
        except Exception as raised:
            waiting = _waiting(raised)
            if waiting is not None and getattr(client, "_deltaworks_in_flow", False):
                raise waiting from None
            raise

    client._handle_error = handle


def _waiting(error: Exception) -> Waiting | None:
    condition = getattr(error, "_errorClass", None)
    if condition not in (_NOT_READY, _NOT_MATERIALIZED):
        return None
    parameters = getattr(error, "_messageParameters", None) or {}
    dataset = str(parameters.get("dataset", ""))
    return DatasetNotReady(dataset) if condition == _NOT_READY else DatasetNotMaterialized(dataset)


@contextmanager
def flow_context(spark: Any, graph_id: str, flow: str | None) -> Iterator[None]:
    """Tells the engine with every request which flow's function is running."""
    import pyspark.sql.connect.proto as pb2
    from google.protobuf import any_pb2

    packed = any_pb2.Any()
    packed.Pack(pb2.PipelineAnalysisContext(dataflow_graph_id=graph_id, flow_name=flow))
    extension = spark.client.add_threadlocal_user_context_extension(packed)
    spark.client._deltaworks_in_flow = flow is not None
    try:
        yield
    finally:
        spark.client._deltaworks_in_flow = False
        spark.client.remove_user_context_extension(extension)


def display(*_: Any, **__: Any) -> None:
    """Does nothing: an update has nobody to show rows to."""


# What `from pyspark.sql.functions import *` gave before PySpark 4.
_STAR_NAMES = (
    "approxCountDistinct",
    "bitwiseNOT",
    "countDistinct",
    "shiftLeft",
    "shiftRight",
    "shiftRightUnsigned",
    "sumDistinct",
    "toDegrees",
    "toRadians",
    "ArrayType",
    "Column",
    "DataType",
    "StringType",
    "StructType",
)


def install_modules(spark: Any, dbutils: Any) -> None:
    """Makes ``dlt``, the larger ``pyspark.pipelines`` and the modules of the runtime importable."""
    import pyspark
    from pyspark.sql import functions
    from pyspark.sql.connect.dataframe import DataFrame

    from deltaworks import api

    sys.modules["dlt"] = api
    sys.modules["pyspark.pipelines"] = api
    pyspark.pipelines = api
    DataFrame.display = display
    functions.__all__ = list(dict.fromkeys([*functions.__all__, *_STAR_NAMES]))
    _module("pyspark.dbutils", DBUtils=type(dbutils))
    if importlib.util.find_spec("delta") is None:
        _module("delta").__path__ = []
        _module("delta.tables", DeltaTable=_NoDeltaTable)
    if importlib.util.find_spec("databricks") is None:
        _module("databricks").__path__ = []
        _module("databricks.sdk").__path__ = []
    _module("databricks.sdk.runtime", spark=spark, dbutils=dbutils, display=display, sql=spark.sql)


class _NoDeltaTable:
    """Stands for Delta's own API, which many notebooks import and few of those that define pipelines call."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("DeltaTable is not supported in a pipeline: tables are written by their flows")

    forName = forPath = isDeltaTable = create = createIfNotExists = createOrReplace = replace = convertToDelta = __new__


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    return module
