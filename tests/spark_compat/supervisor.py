"""Runs all doctests of a module, whatever happens to the processes that do it."""

import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from server import Server

WORKER = Path(__file__).with_name("worker.py")
# What a doctest may take, and how much later its process is given up.
SECONDS = 20
GRACE_SECONDS = 10


@dataclass(frozen=True)
class Outcome:
    """How one doctest went."""

    name: str
    status: str
    cause: str = ""
    detail: str = ""


def run_module(module: str, names: list[str], server: Server) -> list[Outcome]:
    """The outcomes of the doctests `names` of `module`, in that order."""
    outcomes: dict[str, Outcome] = {}
    while missing := [name for name in names if name not in outcomes]:
        url, server_id = server.ensure()
        running = None
        for event in _events(module, missing, url):
            if event["event"] == "started":
                running = event["name"]
            elif event["event"] == "done":
                running = None
                outcomes[event["name"]] = Outcome(event["name"], event["status"], event["cause"], event["detail"])
        if server.ensure()[1] != server_id:
            # Whatever failed last, failed because of this.
            culprit = running or list(outcomes)[-1]
            outcomes[culprit] = Outcome(culprit, "failed", "the server died")
        elif running is not None:
            outcomes[running] = Outcome(running, "failed", "the client hangs or died")
        elif missing == [name for name in names if name not in outcomes]:
            for name in missing:
                outcomes[name] = Outcome(name, "failed", "the worker cannot be started")
    return [outcomes[name] for name in names]


def _events(module: str, names: list[str], url: str):
    """What a new worker tells; ends when it is done, dies, or is silent for too long."""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, WORKER, module, str(write), str(SECONDS), *names]
        environment = {**os.environ, "SPARK_REMOTE": url, "SPARK_CONNECT_MODE_ENABLED": "1", "TZ": "UTC"}
        worker = subprocess.Popen(
            command,
            pass_fds=[write],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read, "rb", buffering=0) as pipe:
            pending = b""
            while select.select([pipe], [], [], SECONDS + GRACE_SECONDS)[0]:
                data = pipe.read(65_536)
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["event"] == "end":
                        worker.wait(timeout=GRACE_SECONDS)
                        return
                    yield event
        worker.kill()
        worker.wait()
