"""Paths of production, as Python's own reads of files find them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from deltaworks import places
from deltaworks.dbutils import FileSystem, Widgets
from deltaworks.places import Places

if TYPE_CHECKING:
    from pathlib import Path


def test_prefixes_cover_components_in_all_spellings() -> None:
    mapped = Places({"/mnt/raw/": "/p/raw/", "/mnt/raw/big": "/q", "dbfs:/x": "/p/x", "s3://b": "/p/b", "/": "/p/root"})
    for path, expected in [
        ("/mnt/raw", "/p/raw"),
        ("dbfs:/mnt/raw/a.csv", "/p/raw/a.csv"),
        ("/dbfs/mnt/raw/a.csv", "/p/raw/a.csv"),
        ("/mnt/raw/big/a", "/q/a"),
        ("/mnt/raw/bigger", "/p/raw/bigger"),
        ("/x/a", "/p/x/a"),
        ("s3a://b/a", "/p/b/a"),
        ("dbfs:/other/a", "/p/root/other/a"),
    ]:
        assert mapped.mapped(path) == expected, path
    assert Places({"/mnt": "/p"}).mapped("/mntx/a") is None
    with pytest.raises(ValueError, match="leads out"):
        mapped.mapped("/mnt/raw/../../a")


def test_a_prefix_is_no_longer_for_being_spelled_with_dbfs() -> None:
    mapped = Places({"dbfs:/": "/p/a", "/mnt/": "/p/b", "dbfs:/data/": "/p/c", "/data/raw": "/p/d"})
    assert mapped.mapped("/mnt/x") == mapped.mapped("dbfs:/mnt/x") == "/p/b/x"
    assert mapped.mapped("/data/raw/x") == "/p/d/x"
    assert mapped.mapped("/data/x") == "/p/c/x"
    assert mapped.mapped("/dbfs/other") == "/p/a/other"


def test_open_finds_mapped_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("here")
    monkeypatch.setattr("builtins.open", open)
    monkeypatch.setattr(io, "open", io.open)
    places.install(Places({"/Volumes/main/": str(tmp_path)}))
    with open("/Volumes/main/a.txt") as file:  # noqa: PTH123
        assert file.read() == "here"
    with io.open("/Volumes/main/a.txt", "rb") as raw:  # noqa: UP020
        assert raw.read() == b"here"
    with pytest.raises(FileNotFoundError):
        open("/Volumes/other/a.txt")  # noqa: PTH123, SIM115


def test_open_leaves_files_alone_that_no_mapping_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", open)
    monkeypatch.setattr(io, "open", io.open)
    root, here = tmp_path / "root", tmp_path / "here"
    for folder in (root, here):
        folder.mkdir()
    places.install(Places({"dbfs:/": str(root)}))
    (here / "own.txt").write_text("own")
    with open(here / "own.txt") as file:  # noqa: PTH123
        assert file.read() == "own"
    (root / "data.txt").write_text("mapped")
    with open("/data.txt") as file:  # noqa: PTH123
        assert file.read() == "mapped"
    with open("/new.txt", "w") as file:  # noqa: PTH123
        file.write("written")
    assert (root / "new.txt").read_text() == "written"
    with open(here / "later.txt", mode="w") as file:  # noqa: PTH123
        file.write("own")
    assert (here / "later.txt").exists()


def test_dbutils_lists_mapped_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    files = FileSystem(Places({"/mnt/raw/": str(tmp_path)}))
    for folder in ("/mnt/raw", "/mnt/raw/", "dbfs:/mnt/raw/", "/dbfs/mnt/raw"):
        assert [entry.name for entry in files.ls(folder)] == ["a.txt"], folder


def test_widgets_have_the_values_of_the_configuration() -> None:
    widgets = Widgets({"catalog": "main"})
    assert widgets.get("catalog") == "main"
    widgets.text("catalog", "dev")
    widgets.dropdown("schema", "a", ["a", "b"])
    assert widgets.getAll() == {"catalog": "main", "schema": "a"}
    assert widgets.getArgument("missing", "x") == "x"
    with pytest.raises(ValueError, match="set `missing` in the pipeline's `configuration`"):
        widgets.get("missing")
