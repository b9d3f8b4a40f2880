"""Reads of the pipeline's own datasets."""

from __future__ import annotations

import re
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
    # A qualified name says itself where the dataset is; it may be a table of another pipeline.
    qualified = "." in re.sub(r"`[^`]*`", "", name)
    return name if qualified else f"LIVE.{name}"
