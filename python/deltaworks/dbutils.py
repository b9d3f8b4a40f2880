"""The parts of ``dbutils`` that pipelines use: secrets and files."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from deltaworks.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class FileInfo:
    """A directory entry."""

    path: str
    name: str
    size: int
    modificationTime: int

    def isDir(self) -> bool:
        """Whether it is a directory."""
        return self.name.endswith("/")

    def isFile(self) -> bool:
        """Whether it is a file."""
        return not self.isDir()


@dataclass(frozen=True)
class SecretMetadata:
    """The name of a secret."""

    key: str


class Secrets:
    """Secrets from ``DELTAWORKS_SECRET_<SCOPE>_<KEY>`` or the file that ``DELTAWORKS_SECRETS`` names."""

    # Told every value that is handed out, so that the engine keeps it out of what it writes down.
    listeners: ClassVar[list[Callable[[str], None]]] = []

    def get(self, scope: str, key: str) -> str:
        """The value of a secret."""
        variable = "DELTAWORKS_SECRET_" + re.sub(r"\W", "_", f"{scope}_{key}").upper()
        value = os.environ.get(variable)
        if value is None:
            value = self._file().get(scope, {}).get(key)
        if value is None:
            raise ValueError(
                f"secret `{key}` of scope `{scope}` does not exist: set {variable}, or name a TOML or JSON file "
                "with it in DELTAWORKS_SECRETS"
            )
        for tell in self.listeners:
            tell(str(value))
        return str(value)

    def getBytes(self, scope: str, key: str) -> bytes:
        """The value of a secret as bytes."""
        return self.get(scope, key).encode()

    def list(self, scope: str) -> list[SecretMetadata]:
        """The names of the secrets in the file."""
        return [SecretMetadata(key) for key in self._file().get(scope, {})]

    def _file(self) -> dict[str, dict[str, Any]]:
        path = os.environ.get("DELTAWORKS_SECRETS")
        if not path:
            return {}
        with open(path, "rb") as file:
            if path.endswith(".json"):
                loaded: dict[str, dict[str, Any]] = json.load(file)
                return loaded
            return _toml(file.read().decode())


class FileSystem:
    """The local file system, with the pipeline's path mappings applied."""

    def __init__(self, places: Places) -> None:
        self._local = places.local

    def ls(self, path: str) -> list[FileInfo]:
        """The entries of a directory."""
        entries = []
        for entry in sorted(os.scandir(self._local(path)), key=lambda entry: entry.name):
            status = entry.stat()
            name = entry.name + ("/" if entry.is_dir() else "")
            size = 0 if entry.is_dir() else status.st_size
            entries.append(FileInfo(f"{path.rstrip('/')}/{name}", name, size, int(status.st_mtime * 1000)))
        return entries

    def head(self, file: str, maxBytes: int = 65536) -> str:
        """The beginning of a file."""
        with open(self._local(file), "rb") as opened:
            return opened.read(maxBytes).decode(errors="replace")

    def exists(self, path: str) -> bool:
        """Whether there is something at a path."""
        return os.path.exists(self._local(path))

    def mkdirs(self, dir: str) -> bool:
        """Makes a directory and those above it."""
        os.makedirs(self._local(dir), exist_ok=True)
        return True

    def __getattr__(self, name: str) -> NoReturn:
        raise NotImplementedError(f"dbutils.fs.{name} is not supported in a pipeline")


class Widgets:
    """Widgets of notebooks. Nobody sets them in a pipeline: their values are those of the configuration."""

    def __init__(self, configuration: Mapping[str, str]) -> None:
        self._configuration = configuration
        self._defaults: dict[str, str] = {}

    def get(self, name: str) -> str:
        """The value that the configuration has for `name`, or the widget's default."""
        value = self._configuration.get(name, self._defaults.get(name))
        if value is None:
            raise ValueError(
                f"no input widget named `{name}` is defined: set `{name}` in the pipeline's `configuration`, "
                "or declare the widget with a default"
            )
        return value

    def getArgument(self, name: str, defaultValue: str = "") -> str:
        """The value of a widget, or `defaultValue`."""
        return self._configuration.get(name, self._defaults.get(name, defaultValue))

    def getAll(self) -> dict[str, str]:
        """The values of all widgets that were declared."""
        return {name: self.get(name) for name in self._defaults}

    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:
        """Declares a widget."""
        self._defaults[name] = str(defaultValue)

    def dropdown(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        """Declares a widget; the value of the configuration need not be one of the choices."""
        self.text(name, defaultValue)

    combobox = dropdown
    multiselect = dropdown

    def remove(self, name: str) -> None:
        """Forgets a widget."""
        self._defaults.pop(name, None)

    def removeAll(self) -> None:
        """Forgets all widgets."""
        self._defaults.clear()


class _Library:
    def restartPython(self) -> None:
        """Does nothing: packages are installed before the pipeline starts."""


class _Unsupported:
    def __init__(self, name: str, advice: str) -> None:
        self._name, self._advice = name, advice

    def __getattr__(self, name: str) -> NoReturn:
        raise NotImplementedError(f"dbutils.{self._name}.{name} is not supported in a pipeline: {self._advice}")


class DBUtils:
    """``dbutils``; may be made from a session, as in ``DBUtils(spark)``."""

    places: ClassVar[Places] = Places({})
    configuration: ClassVar[Mapping[str, str]] = {}

    def __init__(self, spark: object = None) -> None:
        self.secrets = Secrets()
        self.fs = FileSystem(self.places)
        self.library = _Library()
        self.widgets = Widgets(self.configuration)
        self.notebook = _Unsupported("notebook", "import a module instead")
        self.jobs = _Unsupported("jobs", "a pipeline is not a job")


def _toml(text: str) -> dict[str, dict[str, Any]]:
    import sys

    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads(text)
    # Python 3.10 has no TOML reader: tables of strings are all that secrets need.
    tables: dict[str, dict[str, Any]] = {}
    current: dict[str, Any] = {}
    for line in text.splitlines():
        line = line.strip()
        if table := re.fullmatch(r'\["?([^"\]]+)"?\]', line):
            current = tables.setdefault(table.group(1), {})
        elif pair := re.fullmatch(r'"?([^"=]+?)"?\s*=\s*"(.*)"', line):
            current[pair.group(1)] = json.loads(f'"{pair.group(2)}"')
    return tables
