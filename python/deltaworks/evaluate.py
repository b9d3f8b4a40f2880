"""Evaluates the Python source files of a pipeline: ``python -m deltaworks.evaluate``.

Environment: ``DELTAWORKS_REMOTE`` (``sc://localhost:<port>``) and ``DELTAWORKS_TOKEN``.

Standard input, one JSON object per line. The first is the job::

    {"root": folder, "sources": [{"path", "shown", "kind": "py" | "notebook" | "ipynb"}],
     "graph_id": id or null, "default_catalog", "default_database", "conf": {key: value},
     "path_mappings": {prefix: folder}}

Later lines are commands with an ``id``: ``{"evaluate": flow}`` calls a function again, ``{"snapshot": flow,
"latest_version": version or null}`` asks for the snapshot after a version (``{"type", "value", "local"}``, see
``snapshots``), ``{"batch": sink, "batch_id": number}`` calls the function of a sink. ``{"exit": true}`` or the end
of input ends the process.
``{"event": {...}}`` goes to the event hooks, which run in a thread of their own.

Standard output, one JSON object per line: ``{"type": "error", "message", "condition", "file", "line",
"traceback", "dataset"}`` for every problem, then ``{"type": "defined", "ok": bool, "graph_id",
"deferred": [{"flow", "waits_for"}], "snapshots": [flow], "hooks": [name]}``, then one
``{"type": "answer", "id", "ok": bool, ...}`` per command. Events are not answered: whenever all hooks have
seen one there is ``{"type": "told"}``, and for each that raised ``{"type": "hook", "hook", "disabled": bool,
"message", ...}`` before it.
``{"type": "secret", "value"}`` comes whenever the user's code gets a secret, before anything that could contain it.
What the user's code prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deltaworks.evaluator import Evaluator


class Reports:
    """Writes reports to the engine."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, kind: str, **fields: Any) -> None:
        """Writes one report."""
        line = json.dumps({"type": kind, **fields}, default=str) + "\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()


def main() -> int:
    """Runs the process; the exit code is 0 unless the process itself failed."""
    reports = Reports(_take_stdout())
    line = sys.stdin.readline()
    if not line:
        return 0
    job = json.loads(line)
    commands = _commands(_take_stdin())
    # Modules make many objects and no garbage: looking for it takes a tenth of their time.
    gc.disable()
    from deltaworks.session import connect

    # First of all: it knows how to import the client without what the client seldom needs.
    spark = connect()
    from deltaworks.evaluator import Evaluator

    # What was made so far stays: nobody needs to look through it again.
    gc.freeze()
    gc.enable()
    evaluator = Evaluator(spark, job, reports)
    evaluator.evaluate()
    serve(evaluator, reports, commands)
    return 0


def serve(evaluator: Evaluator, reports: Reports, commands: Iterable[str]) -> None:
    """Answers commands until there are no more."""
    for line in commands:
        if not line.strip():
            continue
        command = json.loads(line)
        if "exit" in command:
            return
        if "event" in command:
            evaluator.hooks.tell(command["event"])
            continue
        reports.send("answer", id=command.get("id"), **evaluator.answer(command))


def _commands(stream: TextIO) -> Iterator[str]:
    """The lines of `stream`, read from now on.

    Its end ends the process at once, even in the middle of the user's code.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        # The engine is gone: nobody wants the result of what is running.
        os._exit(0)

    threading.Thread(target=read, name="commands", daemon=True).start()
    return iter(lines.get, None)


def _take_stdin() -> TextIO:
    """Keeps standard input for commands: the user's code finds it empty, and does not wait for what is not for it."""
    commands = sys.stdin
    sys.stdin = open(os.devnull)  # noqa: SIM115
    return commands


def _take_stdout() -> TextIO:
    """Keeps standard output for reports: the user's prints, also those of C code, go to standard error."""
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return reports


if __name__ == "__main__":
    # The module runs under the name `__main__`, which the user's files get.
    from deltaworks import evaluate

    try:
        code = evaluate.main()
    except ModuleNotFoundError as missing:
        # The engine says what to install: how the module came to be imported is of no use.
        print(missing, file=sys.stderr)
        code = 1
    sys.stderr.flush()
    # The engine need not wait for what comes now.
    for printed in (1, 2):
        # The user's code may have closed it.
        with contextlib.suppress(OSError):
            os.close(printed)
    # Threads of gRPC and of the user's code must not keep the process alive.
    os._exit(code)
