from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from phi3tune.cli import export as export_command
from phi3tune.cli import main
from phi3tune.paths import Workspace
from tests.fake_builds import fake_build, parity_report


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    out, errors = capsys.readouterr()
    return code, out, errors


def test_list_and_show(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = said(capsys, "builds")
    assert code == 0
    assert "phi3tune export" in errors
    path = fake_build(workspace, "lamp")
    fake_build(workspace, "lamp", "int8", passed=False)
    code, out, _ = said(capsys, "builds", "--json")
    found = {build["ref"]: build for build in json.loads(out)["builds"]}
    assert code == 0
    assert found["lamp/onnx/int4"]["path"] == str(path)
    assert found["lamp/onnx/int8"]["verdict"] == "failed"
    _, out, _ = said(capsys, "builds")
    assert "FAILED" in out
    code, out, _ = said(capsys, "builds", "show", "lamp/onnx/int4")
    assert code == 0
    assert "99th percentile" in out
    assert "810.5 tokens/s" in out
    code, out, _ = said(capsys, "builds", "show", "lamp/onnx/int8", "--json")
    assert code == 1
    assert json.loads(out)["parity"]["missed"]
    code, _, errors = said(capsys, "builds", "show", "lamp/onnx/int2")
    assert code == 2
    assert errors.startswith("phi3tune: there is no build 'lamp/onnx/int2'")


def test_archive_and_delete(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fake_build(workspace, "lamp")
    code, out, _ = said(capsys, "builds", "archive", "lamp/onnx/int4", "--out", str(tmp_path / "b.zip"), "--json")
    assert code == 0
    assert json.loads(out)["path"] == str(tmp_path / "b.zip")
    assert "lamp-int4/README.md" in zipfile.ZipFile(tmp_path / "b.zip").namelist()
    code, _, errors = said(capsys, "builds", "delete", "lamp/onnx/int4")
    assert code == 0
    assert not path.exists()
    assert "MB" in errors


def test_push_of_nothing_of_ours_is_a_mistake(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = said(capsys, "push", "phi3-nano", "ada/nano", "--json")
    assert (code, out) == (2, "")
    assert "was not made here" in errors


def test_summary_of_an_export(capsys: pytest.CaptureFixture[str]) -> None:
    tried = [
        {
            "build": "rtn-32",
            "size_bytes": 4_500_000,
            "chosen": True,
            "kl_mean": 0.004,
            "decode_tokens_per_second": 700.0,
        },
        {"build": "rtn-16", "size_bytes": 5_300_000, "chosen": False},
    ]
    parity = parity_report(passed=False)
    export_command._summary({"path": "/x/int4", "size_bytes": 5_000_000, "parity": parity, "tried": tried})
    errors = capsys.readouterr().err
    assert "parity with the merged model: FAILED" in errors
    assert "mean KL 0.5 at 1,024 tokens is above 0.02" in errors
    assert "* rtn-32" in errors
    assert "beyond the limits" in errors
    assert "Peak memory" in errors


def test_failing_build_is_marked_among_models_and_runs(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_build(workspace, "lamp", passed=False)
    _, out, _ = said(capsys, "models", "list", "--json")
    assert {each["model"]: each["failing"] for each in json.loads(out)["models"]}["lamp/onnx/int4"] is True
    _, out, _ = said(capsys, "models", "list")
    assert "(fails parity)" in out
    _, out, _ = said(capsys, "runs", "show", "lamp", "--json")
    assert json.loads(out)["builds"] == [{"build": "lamp/onnx/int4", "parity": "failed"}]
