"""Reads of the pipeline's own datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaworks import graph
from deltaworks.api import arguments

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def read(name: str) -> DataFrame:
    """The rows of a dataset of this pipeline."""
    from pyspark.sql import SparkSession

    return SparkSession.active().read.table(_live(name))


def read_stream(name: str) -> DataFrame:
    """A dataset of this pipeline as a stream."""
    from pyspark.sql import SparkSession

    return SparkSession.active().readStream.table(_live(name))


readStream = read_stream


def _live(name: str) -> str:
    arguments.string("name", name)
    if graph.active().current_flow is None:
        from pyspark.errors import AnalysisException

        raise AnalysisException(
            "[LIVE_REFERENCE_OUTSIDE_QUERY_DEFINITION_CLASSIC] Referencing datasets using `LIVE` virtual schema "
            "outside the dataset query definition (i.e., @dlt.table annotation) is not supported."
        )
    return name if name[:5].upper() == "LIVE." else f"LIVE.{name}"
