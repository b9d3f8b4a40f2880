"""Runs source files, then calls the functions they declare, in an order that works."""

from __future__ import annotations

import linecache
import os
import sys
import types
from typing import TYPE_CHECKING, Any

from deltaworks import graph as graphs
from deltaworks import notebook, origin, snapshots, source
from deltaworks.dbutils import DBUtils, Secrets
from deltaworks.hooks import Hooks
from deltaworks.places import Places
from deltaworks.places import install as install_places
from deltaworks.registry import Registry
from deltaworks.session import (
    DatasetNotMaterialized,
    DatasetNotReady,
    display,
    flow_context,
    install_modules,
    raise_waiting,
)

if TYPE_CHECKING:
    from deltaworks.evaluate import Reports
    from deltaworks.graph import Flow, Location


class Evaluator:
    """One evaluation of the files of a pipeline."""

    def __init__(self, spark: Any, job: dict[str, Any], reports: Reports) -> None:
        self.spark = spark
        self.job = job
        self.reports = reports
        self.paths = source.Paths(job["root"])
        self.graph = graphs.Graph()
        self.registry = Registry(spark.client, job.get("graph_id") or self._create_graph(), self.paths)
        self.hooks = Hooks(self.graph.hooks, reports, lambda error: self._problem(error, None, None))
        self.deferred: dict[str, Flow] = {}
        self.failed = False
        DBUtils.places = Places(job.get("path_mappings", {}))
        DBUtils.configuration = job.get("conf", {})
        Secrets.listeners.append(lambda value: reports.send("secret", value=value))
        self.dbutils = DBUtils(spark)

    def evaluate(self) -> None:
        """Runs every file, defines every output and every flow, and reports how it went."""
        install_modules(self.spark, self.dbutils)
        install_places(DBUtils.places)
        raise_waiting(self.spark)
        origin.record(self.paths)
        sys.path.insert(0, os.path.abspath(self.job["root"]))
        with graphs.activate(self.graph):
            for item in self.job["sources"]:
                self._run_file(item)
            for output in self.graph.outputs:
                self._guarded(output.location, output.name, lambda output=output: self.registry.define_output(output))
            self._define_flows()
        self.reports.send(
            "defined",
            ok=not self.failed,
            graph_id=self.registry.graph_id,
            deferred=[{"flow": flow.name, "waits_for": flow.extension["waits_for"]} for flow in self.deferred.values()],
            snapshots=[flow.name for flow in self.graph.flows if flow.snapshots is not None],
            hooks=[hook.name for hook in self.graph.hooks],
        )

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Runs one command of the engine."""
        with graphs.activate(self.graph):
            try:
                if "evaluate" in command:
                    return self._evaluate_again(command["evaluate"])
                if "batch" in command:
                    return self._hand_over(command["batch"], command["batch_id"])
                if "snapshot" in command:
                    return self._next_snapshot(command["snapshot"], command.get("latest_version"))
            except Exception as error:
                return {"ok": False, **self._problem(error, None, None)}
        return {"ok": False, "message": f"unknown command {sorted(command)}"}

    def _create_graph(self) -> str:
        import pyspark.sql.connect.proto as pb2

        command = pb2.Command()
        create = command.pipeline_command.create_dataflow_graph
        create.SetInParent()
        for field in ("default_catalog", "default_database"):
            if self.job.get(field):
                setattr(create, field, self.job[field])
        _, properties, _ = self.spark.client.execute_command(command)
        return str(properties["pipeline_command_result"].create_dataflow_graph_result.dataflow_graph_id)

    def _run_file(self, item: dict[str, Any]) -> None:
        path = os.path.abspath(item["path"])
        self.paths.add(path, item.get("shown") or path)
        location = graphs.Location(path, 0)
        folder = os.path.dirname(path)
        if folder not in sys.path:
            sys.path.append(folder)
        self._guarded(location, None, lambda: self._run_cells(path, item.get("kind", "py")))

    def _run_cells(self, path: str, kind: str) -> None:
        module = types.ModuleType("__main__")
        module.__dict__.update(
            __file__=path, spark=self.spark, dbutils=self.dbutils, display=display, displayHTML=display
        )
        before, sys.modules["__main__"] = sys.modules["__main__"], module
        try:
            with flow_context(self.spark, self.registry.graph_id, None):
                self._run_notebook(path, kind, module.__dict__, ())
        finally:
            sys.modules["__main__"] = before

    def _run_notebook(self, path: str, kind: str, names: dict[str, Any], runners: tuple[str, ...]) -> None:
        """Runs the cells of a file with the globals `names`; `runners` are the notebooks that run it with %run."""
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
        jupyter = kind == "ipynb" or path.endswith(".ipynb")
        shown = notebook.jupyter_text(text) if jupyter else text
        # No modification time: the entry stays although the file holds something else.
        linecache.cache[path] = (len(shown), None, [line + "\n" for line in shown.splitlines()], path)
        for cell in notebook.split_jupyter(text) if jupyter else notebook.split(text):
            if cell.language == "run":
                other = notebook.find(cell.source, path)
                if other in (*runners, path):
                    raise RecursionError(f"{self.paths.show(path)}:{cell.line}: %run {cell.source} runs itself")
                self._run_notebook(other, "notebook", names, (*runners, path))
            elif cell.language == "sql":
                self._sql_cell(cell, path)
            else:
                padded = "\n" * (cell.line - 1) + cell.source + "\n"
                exec(compile(padded, path, "exec", dont_inherit=True), names)

    def _sql_cell(self, cell: notebook.Cell, path: str) -> None:
        """Sends a cell that defines datasets; other statements only show something in a notebook."""
        upper = cell.source.upper()
        if "CREATE" in upper or "APPLY CHANGES" in upper:
            self.registry.define_sql("\n" * (cell.line - 1) + cell.source, self.paths.show(path))

    def _define_flows(self) -> None:
        """Calls functions until no further one can be: each may need the schema of others."""
        waiting = list(self.graph.flows)
        reasons: dict[int, str] = {}
        while waiting:
            still = []
            for flow in waiting:
                missing = self._try_flow(flow)
                if missing is not None:
                    reasons[id(flow)] = missing
                    still.append(flow)
            if len(still) == len(waiting):
                break
            waiting = still
        for flow in waiting:
            missing = reasons[id(flow)]
            self._report(
                message=f"flow `{flow.name}` needs the schema of `{missing}`, which is not known",
                condition="DELTAWORKS_DATASET_NOT_READY",
                location=self._shown(flow.location),
                dataset=flow.target,
                help=f"Fix the errors of `{missing}`, or break the circle of references.",
            )

    def _try_flow(self, flow: Flow) -> str | None:
        """Defines a flow; gives the dataset whose schema it has to wait for."""
        try:
            frame = self._frame(flow) if flow.function is not None else None
            self.registry.define_flow(flow, frame)
        except DatasetNotReady as waiting:
            return waiting.dataset
        except DatasetNotMaterialized as waiting:
            flow.extension["waits_for"] = waiting.dataset
            self.deferred[flow.name] = flow
            self._guarded(flow.location, flow.target, lambda: self.registry.define_flow(flow, None))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._fail(error, flow.location, flow.target)
        return None

    def _frame(self, flow: Flow) -> Any:
        function = flow.function
        assert function is not None
        self.graph.current_flow = flow.name
        try:
            with flow_context(self.spark, self.registry.graph_id, flow.name):
                frame = function()
        finally:
            self.graph.current_flow = None
        return self._as_frame(frame, getattr(function, "__name__", flow.name))

    def _as_frame(self, frame: Any, name: str) -> Any:
        if hasattr(frame, "to_spark") and not hasattr(frame, "_plan"):
            frame = frame.to_spark()
        if not hasattr(frame, "_plan"):
            raise RuntimeError(
                f"Query defined in function '{name}' returned '{type(frame).__name__}'. "
                "It must return either a Spark or Koalas DataFrame."
            )
        return frame

    def _evaluate_again(self, name: str) -> dict[str, Any]:
        flow = next(flow for flow in self.graph.flows if flow.name.lower() == name.lower() and flow.function)
        try:
            frame = self._frame(flow)
        except (DatasetNotReady, DatasetNotMaterialized) as waiting:
            return {"ok": False, "flow": name, "waits_for": waiting.dataset}
        except (Exception, SystemExit) as error:
            return {"ok": False, "flow": name, **self._problem(error, flow.location, flow.target)}
        flow.extension.pop("waits_for", None)
        self.registry.define_flow(flow, frame)
        return {"ok": True, "flow": name}

    def _hand_over(self, name: str, batch_id: int) -> dict[str, Any]:
        """Calls the function of a sink with the rows of a batch, which the engine gives out under the sink's name."""
        called = self.graph.batch_functions[name]
        rows = self.spark.read.format("deltaworks.batch").load(name)
        try:
            called.function(rows, batch_id)
        except (Exception, SystemExit) as error:
            return {"ok": False, **self._problem(error, called.sink.location, None)}
        return {"ok": True}

    def _next_snapshot(self, name: str, latest: dict[str, Any] | None) -> dict[str, Any]:
        flow = next(flow for flow in self.graph.flows if flow.name == name and flow.snapshots is not None)
        assert flow.snapshots is not None
        function, defined = snapshots.origin(flow.snapshots)
        place = self._shown(defined or flow.location)
        try:
            with flow_context(self.spark, self.registry.graph_id, flow.name):
                found = snapshots.call(flow.snapshots, latest)
        except (DatasetNotReady, DatasetNotMaterialized) as waiting:
            return {"ok": False, "flow": name, "waits_for": waiting.dataset}
        except snapshots.SnapshotError as problem:
            described = self._problem(problem, None, flow.target)
            message = f"function `{function}` of flow `{flow.name}` returned {problem}"
            described.update(message=message, file=place.file, line=place.line, traceback=None)
            return {"ok": False, "flow": name, **described}
        except (Exception, SystemExit) as error:
            return {"ok": False, "flow": name, **self._problem(error, flow.location, flow.target)}
        if found is not None:
            self.registry.define_flow(flow, found[0], version=found[1])
        return {
            "ok": True,
            "flow": name,
            "function": {"name": function, "file": place.file, "line": place.line},
        }

    def _guarded(self, location: Location, dataset: str | None, work: Any) -> None:
        try:
            work()
        except (KeyboardInterrupt, SystemExit) as stop:
            if isinstance(stop, KeyboardInterrupt) or stop.code:
                self._fail(stop, location, dataset)
        except BaseException as error:
            self._fail(error, location, dataset)

    def _fail(self, error: BaseException, location: Location, dataset: str | None) -> None:
        self.failed = True
        self.reports.send("error", **self._problem(error, location, dataset))

    def _report(self, *, location: Location, **fields: Any) -> None:
        self.failed = True
        self.reports.send("error", file=location.file, line=location.line, traceback=None, **fields)

    def _shown(self, location: Location) -> Location:
        return graphs.Location(self.paths.show(location.file), location.line)

    def _problem(self, error: BaseException, location: Location | None, dataset: str | None) -> dict[str, Any]:
        traceback, found = source.describe(error, self.paths)
        place = found or (self._shown(location) if location else None)
        condition = getattr(error, "_errorClass", None)
        message = str(error)
        if condition is None:
            message = f"{type(error).__name__}: {message}" if message else type(error).__name__
        else:
            message = message.removeprefix(f"[{condition}] ")
        return {
            "message": message,
            "condition": condition,
            "file": place.file if place else None,
            "line": place.line if place else None,
            "traceback": traceback,
            "dataset": dataset,
        }
