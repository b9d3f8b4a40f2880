"""What is not counted, and why."""

import fnmatch
from pathlib import Path

import tomllib

FILE = Path(__file__).with_name("exclusions.toml")


class Exclusions:
    """The patterns of `exclusions.toml`."""

    def __init__(self, groups: list[dict]):
        self._patterns = [(pattern, group["reason"]) for group in groups for pattern in group["names"]]

    @classmethod
    def read(cls) -> "Exclusions":
        """Reads the file beside this module."""
        return cls(tomllib.loads(FILE.read_text())["exclusion"])

    def reason(self, name: str) -> str | None:
        """Why the doctest `name` is not counted; None if it is."""
        for pattern, reason in self._patterns:
            if fnmatch.fnmatchcase(name, pattern):
                return reason
        return None
