"""Datasets of the Hub, against a hub on this machine."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants, snapshot_download

from phi3tune.config import DatasetConfig
from phi3tune.data import canonical_name, hub, list_datasets, load
from phi3tune.data.hub import fetch
from phi3tune.data.hub_files import choose
from phi3tune.data.lines import Limits
from phi3tune.data.shards import merge_in_child
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, manifest_problem
from tests.fake_hub import FakeHub, Repo, fake_hub

Serve = Callable[..., FakeHub]


def lines(start: int, stop: int) -> bytes:
    rows = ({"question": f"Question {n}?", "answer": f"Answer {n}."} for n in range(start, stop))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(start: int, stop: int, **extra: list[Any]) -> bytes:
    table = {"question": [f"Question {n}?" for n in range(start, stop)]}
    table["answer"] = [f"Answer {n}." for n in range(start, stop)]
    out = io.BytesIO()
    pq.write_table(pa.table({**table, **extra}), out)
    return out.getvalue()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """`serve(repo)` runs a hub that has it as `ada/chats`."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with fake_hub({}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)

        def add(files: dict[str, bytes], **facts: Any) -> FakeHub:
            running.repos["ada/chats"] = Repo(files, **facts)
            return running

        yield add


def answers(path: Path, workspace: Workspace) -> dict[str, set[str]]:
    dataset = load(DatasetConfig(dataset=str(path)), workspace)
    return {part: {c.reference for c in rows} for part, rows in dataset.parts.items()}


def said(start: int, stop: int) -> set[str]:
    return {f"Answer {n}." for n in range(start, stop)}


def test_shards_become_one_file_for_each_part(serve: Serve, workspace: Workspace) -> None:
    files = {
        "README.md": b"# Chats",
        "data/train-00000-of-00002.parquet": parquet(0, 3000),
        "data/train-00001-of-00002.parquet": parquet(3000, 3020),
        "data/test-00000-of-00001.parquet": parquet(4000, 4009),
    }
    running = serve(files, card={"license": "cc-by-4.0"})
    told: list[str] = []
    found = fetch("ada/chats", workspace, report=told.append)
    assert (found.kind, found.name) == ("stored", "ada/chats")
    assert found in list_datasets(workspace)
    parts = answers(found.path, workspace)
    assert parts["train"] | parts["validation"] == said(0, 3020)
    assert parts["test"] == said(4000, 4009)
    assert manifest_problem(workspace.datasets / found.id) is None
    info = json.loads((workspace.datasets / found.id / "info.json").read_text())
    assert (info["source"], info["repo"], info["licence"]) == ("hub", "ada/chats", "cc-by-4.0")
    assert info["commit"] == running.repos["ada/chats"].commit
    assert [line for line in told if "file 3 of 3" in line]


def test_the_same_commit_is_stored_once(serve: Serve, workspace: Workspace) -> None:
    running = serve({"train.jsonl": lines(0, 20)})
    first = fetch("ada/chats", workspace)
    count = len(running.downloads())
    assert fetch("ada/chats", workspace) == first
    assert len(running.downloads()) == count
    running.repos["ada/chats"].files["train.jsonl"] = lines(0, 30)
    newer = fetch("ada/chats", workspace)
    assert newer.id != first.id
    assert len([info for info in list_datasets(workspace) if info.kind == "stored"]) == 2


def test_without_the_hub_the_stored_copy_is_used_and_said(
    serve: Serve, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve({"train.jsonl": lines(0, 20)})
    first = fetch("ada/chats", workspace)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    told: list[str] = []
    assert fetch("ada/chats", workspace, report=told.append) == first
    assert "HF_HUB_OFFLINE is set" in told[0] and "stored earlier" in told[0]
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set.*: go online"):
        fetch("ada/chats:other", workspace)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"it does not answer.*: go online"):
        fetch("ada/none", workspace)


def test_a_download_that_breaks_goes_on_where_it_was(
    serve: Serve, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits before it tries again
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is incomplete of a chunk is sent again
    data = lines(0, 20_000)
    running = serve({"train.jsonl": data}, broken={"train.jsonl": 1})
    found = fetch("ada/chats", workspace)
    assert (found.path / "train.jsonl").read_bytes() == data
    assert [byte for method, _, byte in running.requests if method == "GET" and byte]


@pytest.mark.parametrize("rows", [3, 50])
def test_a_file_with_another_hash_is_refused_and_leaves_nothing(serve: Serve, workspace: Workspace, rows: int) -> None:
    """Three rows are known by git's hash, fifty by sha256."""
    good = lines(0, rows)
    running = serve({"train.jsonl": good}, forged={"train.jsonl": good.replace(b"Answer 1.", b"Answer X.")})
    with pytest.raises(UserError, match=r"train\.jsonl of ada/chats arrived damaged"):
        fetch("ada/chats", workspace)
    assert not list(workspace.datasets.glob("*"))
    running.repos["ada/chats"].forged = {}
    assert (fetch("ada/chats", workspace).path / "train.jsonl").read_bytes() == good


def test_configurations_of_the_card(serve: Serve, workspace: Workspace) -> None:
    files = {
        "en/a.jsonl": lines(0, 20),
        "en/held.jsonl": lines(100, 110),
        "de/a.csv": b"question,answer\nWas?,Das.\n",
        "de/b.csv": b"question,answer\nWer?,Der.",
        "other/train.jsonl": lines(200, 220),
    }
    configs = [
        {
            "config_name": "en",
            "data_files": [{"split": "train", "path": "en/a*"}, {"split": "test", "path": ["en/held.jsonl"]}],
        },
        {"config_name": "de", "data_files": "de/*.csv"},
        {"config_name": "other", "data_dir": "other"},
    ]
    serve(files, card={"configs": configs})
    with pytest.raises(UserError, match="3 configurations: en, de, other; name one: ada/chats:en"):
        fetch("ada/chats", workspace)
    with pytest.raises(UserError, match="no 'fr' but 3 configurations: en, de, other"):
        fetch("ada/chats:fr", workspace)
    assert answers(fetch("ada/chats:en", workspace).path, workspace)["test"] == said(100, 110)
    assert (
        fetch("ada/chats:de", workspace).path / "train.csv"
    ).read_text() == "question,answer\nWas?,Das.\nWer?,Der.\n"
    assert [path.name for path in fetch("ada/chats:other", workspace).path.glob("*.jsonl")] == ["train.jsonl"]
    configs[0]["default"] = True
    assert answers(fetch("ada/chats", workspace).path, workspace)["test"] == said(100, 110)


def test_a_branch_with_a_slash_in_its_name(serve: Serve, workspace: Workspace) -> None:
    serve({"en/train/0000.parquet": parquet(0, 20)}, branches=("main", "refs/convert/parquet"))
    found = fetch("ada/chats:en@refs/convert/parquet", workspace)
    info = json.loads((workspace.datasets / found.id / "info.json").read_text())
    assert (info["part"], info["revision"]) == ("en", "refs/convert/parquet")
    assert answers(found.path, workspace)["train"] <= said(0, 20)


def test_the_id_of_the_hub_is_a_dataset_everywhere(serve: Serve, workspace: Workspace) -> None:
    serve({"train.jsonl": lines(0, 20), "test.jsonl": lines(20, 30)})
    dataset = load(DatasetConfig(dataset="ada/chats"), workspace)
    assert {c.reference for c in dataset.parts["test"]} == said(20, 30)
    assert canonical_name("ada/chats", workspace) == list_datasets(workspace)[-1].id


@pytest.mark.parametrize(
    ("paths", "wanted", "parts"),
    [
        (["a.jsonl"], None, {"train": ["a.jsonl"]}),
        (["train.csv", "dev.csv", "notes.csv"], None, {"train": ["train.csv"], "validation": ["dev.csv"]}),
        (["x/train/1.json", "x/eval/1.json"], None, {"train": ["x/train/1.json"], "test": ["x/eval/1.json"]}),
        (["train.jsonl", "train.parquet"], None, {"train": ["train.parquet"]}),
        (["only_test.jsonl.gz"], None, {"train": ["only_test.jsonl.gz"]}),
        (["train_sft-00000-of-00001.jsonl", "test_gen.jsonl"], None, None),
        (["en/train.jsonl", "de/train.jsonl"], "de", {"train": ["de/train.jsonl"]}),
        (["train.jsonl", "test.jsonl"], "test", {"train": ["test.jsonl"]}),
        ([".hidden/train.jsonl", "__MACOSX/train.jsonl", "config.json", "b.jsonl"], None, {"train": ["b.jsonl"]}),
    ],
)
def test_parts_are_told_from_names(paths: list[str], wanted: str | None, parts: dict[str, list[str]] | None) -> None:
    expected = parts or {"train": [paths[0]], "test": [paths[1]]}
    assert choose(paths, {}, wanted, None, "ada/chats").parts == expected


def test_the_converted_branch_has_a_folder_for_each_configuration() -> None:
    paths = ["en/train/0000.parquet", "en/train/0001.parquet", "en/test/0000.parquet", "de/train/0000.parquet"]
    chosen = choose(paths, {}, "en", "refs/convert/parquet", "ada/chats")
    assert chosen.parts == {"train": paths[:2], "test": paths[2:3]}
    assert chosen.left_out == paths[3:]
    with pytest.raises(UserError, match="2 configurations: de, en"):
        choose(paths, {}, None, "refs/convert/parquet", "ada/chats")


@pytest.mark.parametrize(
    ("paths", "card", "told"),
    [
        (["chats.py", "README.md"], {}, "only a loading script, which is never run"),
        (["a.arrow", "README.md"], {}, r"has \.arrow, \.md; read are \.parquet, \.jsonl"),
        (
            ["train_a.jsonl", "train_b.jsonl"],
            {"configs": [{"data_files": {"train_a": "train_a*", "train_b": "*b*"}}]},
            "several train",
        ),
        (["dev.jsonl", "test.jsonl"], {}, "no train split but validation, test"),
        (["a.jsonl"], {"configs": [{"config_name": "x", "data_files": "**/**/**/b*"}]}, None),
    ],
)
def test_what_cannot_be_used_is_named(paths: list[str], card: dict[str, Any], told: str | None) -> None:
    if told is None:  # a card that names nothing that is there says nothing
        assert choose(paths, card, None, None, "ada/chats").parts == {"train": paths}
        return
    with pytest.raises(UserError, match=told):
        choose(paths, card, None, None, "ada/chats")


@pytest.mark.parametrize(
    ("facts", "hub_id", "told"),
    [
        ({}, "ada/none", "was not found on the Hub"),
        ({}, "ada/chats@v9", "no revision 'v9'"),
        ({}, "chats", "write owner/name"),
        ({}, "ada/chats.jsonl", "write owner/name"),
        ({"access": "private"}, "ada/chats", "not found.*hf auth login"),
        ({"access": "gated"}, "ada/chats", "is gated: accept its terms at .*/datasets/ada/chats"),
    ],
)
def test_repositories_that_are_not_to_be_had(
    serve: Serve, workspace: Workspace, facts: dict[str, Any], hub_id: str, told: str
) -> None:
    serve({"train.jsonl": lines(0, 20)}, **facts)
    with pytest.raises(UserError, match=told) as caught:
        fetch(hub_id, workspace)
    assert "\n" not in str(caught.value)
    assert not list(workspace.datasets.glob("*"))


@pytest.mark.parametrize("access", ["private", "gated"])
def test_a_token_opens_them(serve: Serve, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, access: str) -> None:
    serve({"train.jsonl": lines(0, 20)}, access=access)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert fetch("ada/chats", workspace).path.is_dir()


def test_size_and_disk_are_checked_before_anything_is_downloaded(
    serve: Serve, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve({"train.jsonl": lines(0, 20)})
    monkeypatch.setattr(hub, "MAX_FILE_BYTES", 100)
    with pytest.raises(UserError, match="at most 100 are accepted: name a smaller"):
        fetch("ada/chats", workspace)
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "disk_free", lambda path: 10)
    with pytest.raises(UserError, match=r"10 are free in .*: make room"):
        fetch("ada/chats", workspace)
    assert not running.downloads()


def test_too_many_files_are_refused(serve: Serve, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    serve({f"train-{n}.jsonl": lines(n, n + 1) for n in range(5)})
    monkeypatch.setattr(hub, "MAX_FILES", 4)
    with pytest.raises(UserError, match="more than 4 files"):
        fetch("ada/chats", workspace)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"train-1.csv": b"a,b\n1,2\n", "train-2.csv": b"a,c\n1,2\n"}, "train-2.csv has other columns than train-1"),
        (
            {"train-1.parquet": parquet(0, 3), "train-2.parquet": b"PAR1 no"},
            "train-2.parquet cannot be read as Parquet",
        ),
        ({"train-1.parquet": parquet(0, 3), "train-2.parquet": parquet(0, 1, more=[1])}, "train-2.parquet cannot be"),
        ({"train-1.json": b'[{"a": 1}]', "train-2.json": b'[{"a": 1}]'}, "several JSON documents"),
        (
            {"train-1.jsonl.gz": gzip.compress(b"{}"), "train-2.jsonl.gz": b"no gzip"},
            "train-2.jsonl.gz cannot be unpacked",
        ),
    ],
)
def test_files_that_do_not_go_together(serve: Serve, workspace: Workspace, files: dict[str, bytes], told: str) -> None:
    serve(files)
    with pytest.raises(UserError, match=told):
        fetch("ada/chats", workspace)
    assert not list(workspace.datasets.glob("*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds to the memory limit")
def test_a_file_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    """One value of 64 MiB, packed to a few bytes; it is read in a process of its own."""
    for name in ("1", "2"):
        table = pa.table({"text": pa.array(["x" * 64 * 1024**2])})
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="zstd")
    shards = [(f"{name}.parquet", tmp_path / f"{name}.parquet") for name in ("1", "2")]
    with pytest.raises(UserError, match=r"1\.parquet to 2\.parquet take more than 536,870,912 bytes of memory"):
        merge_in_child(shards, tmp_path / "train", Limits(memory_bytes=512 * 1024**2))
    assert pq.ParquetFile(merge_in_child(shards, tmp_path / "train")).metadata.num_rows == 2


def test_text_shards_are_unpacked_and_joined_at_line_ends(serve: Serve, workspace: Workspace) -> None:
    first, second = lines(0, 10), lines(10, 20)
    serve(
        {"train-1.json.gz": gzip.compress(b"\xef\xbb\xbf" + first.rstrip()), "train-2.json.gz": gzip.compress(second)}
    )
    assert (fetch("ada/chats", workspace).path / "train.jsonl").read_bytes() == first + second


def test_names_of_a_repository_never_become_names_here(serve: Serve, workspace: Workspace, tmp_path: Path) -> None:
    """The client refuses what would leave its cache; the workspace has its own names."""
    serve({"../../train.jsonl": lines(0, 20)})
    with pytest.raises((UserError, ValueError)):
        fetch("ada/chats", workspace)
    assert not list(tmp_path.parent.glob("*.jsonl")) and not list(tmp_path.glob("*.jsonl"))
    serve({"train CON;touch x.jsonl": lines(0, 20)})
    found = fetch("ada/chats", workspace)
    assert sorted(path.name for path in found.path.iterdir()) == ["info.json", "manifest.json", "train.jsonl"]
    assert not (found.path / "train.jsonl").is_symlink()


def test_the_fake_serves_models_too(serve: Serve, tmp_path: Path) -> None:
    running = serve({"config.json": b"{}", "model.safetensors": bytes(5000)}, kind="models")
    folder = snapshot_download("ada/chats", endpoint=running.endpoint, cache_dir=tmp_path / "models")
    assert (Path(folder) / "model.safetensors").read_bytes() == bytes(5000)
