"""Tells the engine on which line of the user's source each step of a query stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql.connect.plan import LogicalPlan

from deltaworks import source

if TYPE_CHECKING:
    from collections.abc import Callable


def record(paths: source.Paths) -> None:
    """From now on the client's plans carry their origin, in the field that Spark Connect has for it."""
    make: Callable[..., None] = LogicalPlan.__init__
    describe: Callable[[Any], Any] = LogicalPlan._create_proto_relation

    def make_with_origin(plan: Any, *args: Any, **kwargs: Any) -> None:
        make(plan, *args, **kwargs)
        place = source.caller()
        plan._deltaworks_origin = f"{paths.show(place.file)}:{place.line}"

    def describe_with_origin(plan: Any) -> Any:
        relation = describe(plan)
        origin = getattr(plan, "_deltaworks_origin", None)
        if origin is not None:
            relation.common.origin.python_origin.call_site = origin
        return relation

    LogicalPlan.__init__ = make_with_origin
    LogicalPlan._create_proto_relation = describe_with_origin
