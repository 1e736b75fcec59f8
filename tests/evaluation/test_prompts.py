"""Prompts from a file: read, answered, and gone on with after a break."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phi3tune import jobs
from phi3tune.cli import main
from phi3tune.config import PromptsConfig
from phi3tune.engines.base import Completion, Request, Usage
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError
from phi3tune.evaluation import prompts, scoring
from phi3tune.events import Event, Progress
from phi3tune.paths import NANO, Workspace
from tests.fakes import RecordingReporter


class Echo:
    info = SimpleNamespace(can=frozenset({"messages"}), context_length=0)

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        texts = [(request.messages or [])[-1]["content"] for request in requests]
        self.asked += texts
        return [Completion(f"{self.name}: {text}", (), "stop", Usage(1, 0, 2, 0.1, 9.0)) for text in texts]


loads: list[list[str]] = []  # models that were loaded together


@pytest.fixture
def echoes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Echo]:
    found: dict[str, Echo] = {}
    loads.clear()

    @contextmanager
    def opened(refs: Sequence[ModelRef], *, key_variable: str) -> Iterator[list[Any]]:
        loads.append([ref.label for ref in refs])
        yield [found.setdefault(ref.label, Echo(ref.label)) for ref in refs]

    monkeypatch.setattr(scoring, "opened", opened)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"question {n}\n" for n in range(20)))
    return path


def config(file: Path, **more: Any) -> PromptsConfig:
    return PromptsConfig(prompts=str(file), models=["phi3-nano", "http://localhost:1/v1#other"], **more)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_every_prompt_is_answered_by_every_model(
    echoes: dict[str, Echo], file: Path, tmp_path: Path, workspace: Workspace
) -> None:
    reporter, out = RecordingReporter(), tmp_path / "out.jsonl"
    result = prompts.answer(config(file, system="Be brief."), out, workspace, reporter)
    assert (result["prompts"], result["failed"], "status" in result) == (20, 0, False)
    found = lines(out)
    assert [(line["model"], line["row"]) for line in found[:20]] == [("phi3-nano", row) for row in range(20)]
    assert found[3]["answer"] == "phi3-nano: question 3"
    assert found[3]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert found == prompts.load(out)
    last = reporter.of(Progress)[-1]
    assert (last.done, last.total) == (40, 40)


def test_models_that_share_weights_are_loaded_together(
    echoes: dict[str, Echo], file: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ModelRef("phi3-nano", "phi3-nano", "torch", NANO)
    refs = {"phi3-nano": base, "run-1": replace(base, ref="run-1", label="run-1", adapter=tmp_path, run="run-1")}
    refs["other"] = ModelRef("other", "other", "remote", None)
    monkeypatch.setattr(prompts, "resolve", lambda name, workspace: refs[name])
    given = PromptsConfig(prompts=str(file), models=["phi3-nano", "other", "run-1"])
    prompts.answer(given, tmp_path / "out.jsonl", workspace, RecordingReporter())
    assert loads == [["phi3-nano", "run-1"], ["other"]]
    assert {len(echo.asked) for echo in echoes.values()} == {20}


def test_stopped_and_cut_off_it_goes_on_where_it_was(
    echoes: dict[str, Echo], file: Path, tmp_path: Path, workspace: Workspace
) -> None:
    def after_ten(event: Event) -> bool:
        return isinstance(event, Progress) and event.done >= 10

    out = tmp_path / "out.jsonl"
    stopped = prompts.answer(config(file), out, workspace, RecordingReporter(after_ten))
    assert stopped["status"] == "stopped"
    before = lines(out)
    assert len(before) == 16
    with out.open("a") as stream:
        stream.write('{"model": "phi3-nano", "row"')  # killed while it wrote
    prompts.answer(config(file), out, workspace, RecordingReporter())
    after = lines(out)
    assert after[:16] == before
    assert len({(line["model"], line["row"]) for line in after}) == len(after) == 40
    assert len(echoes["phi3-nano"].asked) == 20


def test_answers_to_something_else_are_not_mixed_in(
    echoes: dict[str, Echo], file: Path, tmp_path: Path, workspace: Workspace
) -> None:
    out = tmp_path / "out.jsonl"
    prompts.answer(config(file), out, workspace, RecordingReporter())
    kept = out.read_text()
    for changed in (config(file, temperature=0.5), config(file, system="Other.")):
        with pytest.raises(UserError, match="other prompts"):
            prompts.answer(changed, out, workspace, RecordingReporter())
    assert out.read_text() == kept
    out.write_text("not ours\n")
    with pytest.raises(UserError, match="something else"):
        prompts.answer(config(file), out, workspace, RecordingReporter())


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.txt", "\ufeffone\n\n two \n", ["one", "two"]),
        ("a.jsonl", '{"prompt": "one"}\n"two"\n\n', ["one", "two"]),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "one"}]}', ["one"]),
        ("a.csv", 'id,prompt\n1,"one\nline"\n2,two\n3,\n', ["one\nline", "two"]),
    ],
)
def test_kinds_of_files(name: str, text: str, wanted: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [prompt.messages[-1]["content"] for prompt in prompts.read(tmp_path / name)] == wanted


def test_a_datasets_rows_are_asked_without_their_answer(tmp_path: Path) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    row = {"messages": [{"role": role, "content": f"{place}"} for place, role in enumerate(roles)]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    [prompt] = prompts.read(tmp_path / "a.jsonl")
    assert ([m["content"] for m in prompt.messages], prompt.reference) == (["0", "1", "2", "3"], "4")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "\n \n", "holds no prompt"),
        ("a.pdf", "x", "the types are"),
        ("a.csv", "question\nx\n", "no column 'prompt'"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": 5}\n', "a.jsonl:2"),
        ("a.jsonl", "{\n", "a.jsonl:1"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1"),
        ("a.jsonl", '{"messages": [{"role": "wizard", "content": "x"}]}', "end with a question"),
        ("a.jsonl", '{"question": "x"}', "a.jsonl:1"),
    ],
)
def test_a_fault_is_told_with_its_line(name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told):
        prompts.read(tmp_path / name)


def test_what_is_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        prompts.read(tmp_path / "a.txt")
    with pytest.raises(UserError, match="cannot be read"):
        prompts.read(tmp_path / "none.txt")


def test_the_command(echoes: dict[str, Echo], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["prompts", str(file), "phi3-nano", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["prompts"], told["path"]) == ("completed", 20, str(out))
    assert len(lines(out)) == 20
    assert main(["prompts", str(file), "--out", str(tmp_path / "none" / "x.jsonl")]) == 2


@pytest.mark.slow
def test_as_a_job_with_the_bundled_model(file: Path, workspace: Workspace) -> None:
    folder = jobs.submit("prompts", PromptsConfig(prompts=str(file), models=[str(NANO)], max_new_tokens=4), workspace)
    for _ in jobs.follow(folder, workspace):
        pass
    job = jobs.view(folder)
    assert (job.kind, job.state, job.result["prompts"]) == ("prompts", "completed", 20)
    assert len(prompts.load(folder / prompts.ANSWERS)) == 20
