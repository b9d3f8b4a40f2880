"""Runs the doctests of one module of `pyspark.sql` in one session; one JSON line per event to a given descriptor.

    worker.py MODULE DESCRIPTOR SECONDS [NAME ...]

`started` names the doctest that is about to run, `done` its outcome. Whoever reads can tell by a `started`
without a `done` which one made the process hang or die.
"""

import contextlib
import doctest
import importlib
import io
import json
import os
import re
import signal
import sys
import warnings

# The options of Spark's own build for its Connect client, and an end at the first difference.
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL | doctest.FAIL_FAST
SHOWN = 3_000
# What examples set and would have put back, had they come to their end.
SETTINGS = ["spark.sql.session.timeZone", "spark.sql.ansi.enabled", "spark.sql.mapKeyDedupPolicy"]


class TooSlow(BaseException):
    """The doctest takes too long. No example can catch it by accident."""


class FirstFailure(doctest.DocTestRunner):
    """Remembers why a doctest failed first."""

    def __init__(self) -> None:
        super().__init__(optionflags=OPTIONS, verbose=False)
        self.cause = ""
        self.detail = ""

    def report_failure(self, out, test, example, got):
        self._keep("output differs", example, f"got:\n{got}")

    def report_unexpected_exception(self, out, test, example, exc_info):
        if issubclass(exc_info[0], TooSlow):
            raise exc_info[1]
        self._keep(cause_of(exc_info[1]), example, f"raised {exc_info[0].__name__}: {exc_info[1]}")

    def _keep(self, cause: str, example: doctest.Example, got: str) -> None:
        if not self.cause:
            self.cause = cause
            self.detail = f">>> {example.source}expected:\n{example.want}{got}"[:SHOWN]


def cause_of(error: BaseException) -> str:
    """What failures of the same kind have in common: the error without its particulars."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    return f"{type(error).__name__}: {re.sub(r'[0-9]+', '0', first)[:160]}"


def main() -> None:
    """Runs the doctests named, or all of the module."""
    module_name, descriptor, seconds, *wanted = sys.argv[1:]
    events = os.fdopen(int(descriptor), "w", buffering=1)

    def tell(**event: object) -> None:
        events.write(json.dumps(event) + "\n")

    warnings.simplefilter("ignore")
    module = importlib.import_module(f"pyspark.sql.{module_name}")
    from pyspark.sql import SparkSession

    globs = module.__dict__.copy()
    globs["spark"] = SparkSession.builder.remote(os.environ["SPARK_REMOTE"]).getOrCreate()
    globs["SparkSession"] = SparkSession

    def too_slow(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, too_slow)
    prefix = "pyspark.sql."
    tests = [test for test in doctest.DocTestFinder().find(module, globs=globs) if test.examples]
    for test in sorted(tests, key=lambda test: test.name):
        name = test.name.removeprefix(prefix)
        if wanted and name not in wanted:
            continue
        tell(event="started", name=name)
        if all(example.options.get(doctest.SKIP) for example in test.examples):
            tell(event="done", name=name, status="excluded", cause="skipped by Spark itself", detail="")
            continue
        runner = FirstFailure()
        signal.alarm(int(seconds))
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                runner.run(test, out=lambda _: None)
        except TooSlow:
            runner.cause = f"takes longer than {seconds} seconds"
        except SystemExit as error:
            runner.cause = f"the example ends the process: {error}"
        finally:
            signal.alarm(0)
        if runner.cause:
            for setting in SETTINGS:
                with contextlib.suppress(Exception):
                    globs["spark"].conf.unset(setting)
        status = "failed" if runner.cause else "passed"
        tell(event="done", name=name, status=status, cause=runner.cause, detail=runner.detail)
    tell(event="end")
    # The session's threads may wait for a server that is gone.
    os._exit(0)


def names(module_name: str) -> list[str]:
    """The doctests of a module, in the order they are run."""
    module = importlib.import_module(f"pyspark.sql.{module_name}")
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    return sorted(test.name.removeprefix("pyspark.sql.") for test in tests)


if __name__ == "__main__":
    main()
