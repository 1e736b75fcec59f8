"""What `pip install .` gives: built as pip builds it, and used from where no checkout is near."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import phi3tune

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILT_FROM = ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "REUSE.toml")
BUILT_FROM += ("LICENSES", "requirements.txt", "requirements.lock", "app.py", "phi3tune", "datasets")


def run(argv: Sequence[str | Path], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False
    )


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, so that a build leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        given = ROOT / name
        if given.is_dir():
            shutil.copytree(given, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(given, copy / name)
    return copy


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    program = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    made = run([sys.executable, "-c", program, "dist"], source)
    assert made.returncode == 0, made.stderr
    return next((source / "dist").glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive, which must hold all that this takes."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    made = run([*pip, sdist], folder)
    assert made.returncode == 0, made.stdout + made.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", target]
    made = run([*pip, wheel], target)
    assert made.returncode == 0, made.stdout + made.stderr
    return target


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {f"phi3tune/{name}" for name in files(ROOT / "phi3tune")}
    chats = {f"phi3tune/bundled/{name}" for name in files(ROOT / "datasets")}
    assert held == package | chats


def test_the_wheel_tells_its_licence_its_version_and_its_pinned_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [info] = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        for name in ("LICENSE", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "LICENSES").iterdir())):
            assert archive.read(f"{info}/licenses/{name}") == (ROOT / name).read_bytes()
    assert "License-Expression: Apache-2.0\n" in metadata
    assert f"\nVersion: {phi3tune.__version__}\n" in metadata
    needs = {need for need in re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE) if "extra ==" not in need}
    assert needs == set((ROOT / "requirements.txt").read_text(encoding="utf-8").split())


def test_the_source_archive_holds_what_a_build_takes_and_the_licences(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert set(BUILT_FROM) <= held
    for name in ("phi3tune", "datasets", "LICENSES"):
        assert {f"{name}/{file}" for file in files(ROOT / name)} <= held


def test_the_installed_command_finds_the_model_and_the_chats(installed: Path, tmp_path: Path) -> None:
    def phi3tune_(*argv: str) -> str:
        home = {"PYTHONPATH": str(installed), "PHI3TUNE_HOME": str(tmp_path / "home")}
        # -P: not from the folder that it is called in
        done = run([sys.executable, "-P", installed / "bin" / "phi3tune", *argv], tmp_path, **home)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert phi3tune_("--version").strip() == phi3tune.__version__
    assert json.loads(phi3tune_("data", "check", "lantern-support", "--json"))["problems"] == []
    assert "phi3-nano" in phi3tune_("models", "list")


def test_what_is_installed_hides_no_package_of_others(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"phi3tune", "bin"}


def test_the_installed_page_is_that_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = "import phi3tune, sys; from phi3tune.ui import launch; print(phi3tune.__file__, callable(launch.serve))"
    done = run([sys.executable, "-P", "-c", program], tmp_path, PYTHONPATH=str(installed))
    assert done.stdout.split() == [str(installed / "phi3tune" / "__init__.py"), "True"], done.stderr
    commands = run([sys.executable, "-P", "-m", "phi3tune", "app", "--help"], tmp_path, PYTHONPATH=str(installed))
    assert commands.returncode == 0 and "--port" in commands.stdout


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["dependencies", "version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", phi3tune.__version__)
    assert f"\n## {phi3tune.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_licence_that_is_named_lies_there_and_no_other() -> None:
    """In short what `reuse lint` checks."""
    tables = tomllib.loads((ROOT / "REUSE.toml").read_text(encoding="utf-8"))["annotations"]
    assert tables[0]["path"] == "**"  # so no file is without a licence
    assert all(table["SPDX-FileCopyrightText"] for table in tables)
    named = {table["SPDX-License-Identifier"] for table in tables}
    assert named == {path.stem for path in (ROOT / "LICENSES").iterdir()}
    for table in tables[1:]:
        assert list(ROOT.glob(table["path"])), f"REUSE.toml speaks of {table['path']}, which is not there"
    assert (ROOT / "LICENSE").read_bytes() == (ROOT / "LICENSES" / "Apache-2.0.txt").read_bytes()
    assert PROJECT["project"]["license"] == tables[0]["SPDX-License-Identifier"]
