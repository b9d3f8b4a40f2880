"""A `deltaworks connect` in an empty folder."""

import subprocess
import threading
from pathlib import Path

START_SECONDS = 30


class Server:
    """One server process; `ensure` replaces it when it has died."""

    def __init__(self, binary: Path, folder: Path):
        self._binary = binary
        self._folder = folder
        self._log = (folder / "server.log").open("ab")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._url = ""

    def ensure(self) -> tuple[str, int]:
        """The address of a running server, and a number that changes when it is a new one."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._process is not None
            return self._url, self._process.pid

    def _start(self) -> None:
        catalog = self._folder / "catalog"
        catalog.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [self._binary, "connect", "--port", "0"],
            cwd=catalog,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        assert self._process.stdout is not None
        self._url = self._process.stdout.readline().strip()
        timer.cancel()
        if not self._url.startswith("sc://"):
            raise SystemExit(f"{self._binary} does not serve: see {self._log.name}")

    def stop(self) -> bool:
        """Ends the server as a user would; whether it went in order."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.terminate()
        try:
            return self._process.wait(timeout=10) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            return False
