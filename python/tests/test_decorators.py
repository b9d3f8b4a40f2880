"""The pipeline API as user code calls it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deltaworks import api as dlt
from deltaworks import graph
from deltaworks.graph import Graph


@pytest.fixture
def declared() -> Iterator[Graph]:
    with graph.activate(Graph()) as active:
        yield active


def test_decorators_work_with_and_without_parentheses(declared: Graph) -> None:
    @dlt.table
    def a() -> None: ...

    @dlt.table()
    def b() -> None: ...

    @dlt.view(name="c")
    def whatever() -> None: ...

    assert [(output.name, output.kind) for output in declared.outputs] == [
        ("a", "table"),
        ("b", "table"),
        ("c", "temporary_view"),
    ]
    assert [flow.name for flow in declared.flows] == ["a", "b", "c"]
    assert a is not None, "the decorated name stays callable"


def test_expectations_may_stand_below_and_above(declared: Graph) -> None:
    @dlt.expect("above", "x > 0")
    @dlt.table
    @dlt.expect_or_drop("below", "y > 0")
    @dlt.expect_all_or_fail({"also": "z > 0"})
    def t() -> None: ...

    found = {(item.name, item.action) for item in declared.outputs[0].expectations}
    assert found == {("above", "warn"), ("below", "drop"), ("also", "fail")}


def test_factories_make_one_dataset_per_call(declared: Graph) -> None:
    def make(name: str) -> None:
        @dlt.table(name=f"t_{name}")
        @dlt.expect(f"{name} valid", "x IS NOT NULL")
        def t() -> None: ...

    for name in ("a", "b"):
        make(name)
    assert [(o.name, [e.name for e in o.expectations]) for o in declared.outputs] == [
        ("t_a", ["a valid"]),
        ("t_b", ["b valid"]),
    ]


def test_locations_are_the_users_lines(declared: Graph) -> None:
    @dlt.table(name="here")
    def t() -> None: ...

    assert declared.outputs[0].location.file == __file__
    line = Path(__file__).read_text(encoding="utf-8").splitlines()[declared.outputs[0].location.line - 1]
    assert 'name="here"' in line


def test_a_name_given_positionally_is_refused(declared: Graph) -> None:
    with pytest.raises(RuntimeError, match="first positional argument passed to @table must be callable"):
        dlt.table("name")


def test_wrong_types_are_refused(declared: Graph) -> None:
    with pytest.raises(Exception, match="NOT_EXPECTED_TYPE"):
        dlt.table(table_properties="quality=gold")
    with pytest.raises(Exception, match="NOT_EXPECTED_TYPE"):
        dlt.create_streaming_table(1)


def test_functions_of_sinks_stay_callable_and_have_a_name(declared: Graph) -> None:
    @dlt.foreach_batch_sink
    def plain(rows: object, batch_id: int) -> str:
        return f"plain {batch_id}"

    @dlt.foreach_batch_sink(name="named")
    def other(rows: object, batch_id: int) -> None: ...

    @dlt.expect("refused by the engine", "x > 0")
    @dlt.foreach_batch_sink("positional")
    def third(rows: object, batch_id: int) -> None: ...

    assert [(output.name, output.kind) for output in declared.outputs] == [
        ("plain", "sink"),
        ("named", "sink"),
        ("positional", "sink"),
    ]
    assert list(declared.batch_functions) == ["plain", "named", "positional"]
    assert declared.batch_functions["plain"].function(None, 7) == plain(None, 7) == "plain 7"
    assert [len(output.expectations) for output in declared.outputs] == [0, 0, 1]


def test_settings_are_written_as_spark_writes_them(declared: Graph) -> None:
    dlt.create_streaming_table("t", table_properties={"a": True, "b": 1})
    assert declared.outputs[0].table_properties == {"a": "true", "b": "1"}


def test_cdc_takes_every_parameter_as_none(declared: Graph) -> None:
    dlt.create_auto_cdc_flow(
        target="t",
        source="s",
        keys=["id"],
        sequence_by="ts",
        apply_as_deletes=None,
        apply_as_truncates=None,
        column_list=None,
        except_column_list=None,
        stored_as_scd_type="2",
        track_history_column_list=["address"],
        name=None,
        once=False,
    )
    flow = declared.flows[0]
    assert flow.name == "t"
    assert flow.auto_cdc is not None
    assert flow.auto_cdc["stored_as_scd_type"] == "2"
    assert flow.location.file == __file__


def test_history_needs_scd_type_2(declared: Graph) -> None:
    with pytest.raises(ValueError, match="stored_as_scd_type=2"):
        dlt.apply_changes("t", "s", ["id"], "ts", track_history_column_list=["a"])


def test_old_names_warn(declared: Graph) -> None:
    with pytest.warns(DeprecationWarning, match="create_target_table has been deprecated"):
        dlt.create_target_table("t")
    assert declared.outputs[0].name == "t"


def test_create_table_called_as_a_function_makes_a_target(declared: Graph) -> None:
    dlt.create_table(name="first", comment="for flows")
    dlt.create_table("second")
    dlt.create_table(name="third", expect_all={"positive": "x > 0"})

    @dlt.append_flow(target="first")
    def flow() -> None: ...

    assert [(output.name, output.kind, output.comment) for output in declared.outputs] == [
        ("first", "table", "for flows"),
        ("second", "table", None),
        ("third", "table", None),
    ]
    assert [expectation.name for expectation in declared.outputs[2].expectations] == ["positive"]
    assert not any(output.extension.get("kind_by_query") for output in declared.outputs)
    assert [(flow.name, flow.target) for flow in declared.flows] == [("flow", "first")]


def test_create_table_as_a_decorator_is_table(declared: Graph) -> None:
    with pytest.warns(DeprecationWarning, match="create_table has been deprecated. Please use table"):

        @dlt.create_table(name="t", comment="by query")
        @dlt.expect("positive", "x > 0")
        def query() -> None: ...

        @dlt.create_table
        def bare() -> None: ...

        @dlt.create_table(comment="no name")
        def nameless() -> None: ...

    assert [output.name for output in declared.outputs] == ["t", "bare", "nameless"]
    assert all(output.extension["kind_by_query"] for output in declared.outputs)
    assert [expectation.name for expectation in declared.outputs[0].expectations] == ["positive"]
    assert [flow.name for flow in declared.flows] == ["t", "bare", "nameless"]


def test_expectations_know_their_line(declared: Graph) -> None:
    @dlt.table
    @dlt.expect("first", "x > 0")
    @dlt.expect_or_drop("second", "x > 0")
    def t() -> None: ...

    first, second = sorted(declared.outputs[0].expectations, key=lambda expectation: expectation.location.line)
    assert (first.name, second.name) == ("first", "second")
    assert second.location.line == first.location.line + 1
    assert first.location.file == __file__


def test_nothing_can_be_declared_outside_a_pipeline() -> None:
    with pytest.raises(Exception, match="GRAPH_ELEMENT_DEFINED_OUTSIDE_OF_DECLARATIVE_PIPELINE"):
        dlt.create_streaming_table("t")
