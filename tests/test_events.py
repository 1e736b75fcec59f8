from __future__ import annotations

from pathlib import Path

from phi3tune.events import Completed, EventLog, Metrics, Phase, Sample, read_events


def test_events_survive_the_file(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    written = [
        Phase(name="training"),
        Metrics(step=1, weight=10, values={"loss": 2.5, "grad_norm": float("inf")}),
        Sample(step=1, prompt="a\nb", expected="ü", answer="<|end|>"),
        Completed(result={"run": "lamp"}),
    ]
    for event in written:
        log.append(event)
    events, offset = read_events(tmp_path / "events.jsonl")
    assert events == written
    assert read_events(tmp_path / "events.jsonl", offset) == ([], offset)


def test_a_line_being_written_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(Phase(name="one"))
    whole = path.read_bytes()
    line = Phase(name="two").model_dump_json().encode()
    path.write_bytes(whole + line[:10])
    events, offset = read_events(path)
    assert [event.name for event in events if isinstance(event, Phase)] == ["one"]
    path.write_bytes(whole + line + b"\n")
    events, _ = read_events(path, offset)
    assert [event.name for event in events if isinstance(event, Phase)] == ["two"]


def test_a_line_that_a_full_disk_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(Phase(name="one").model_dump_json().encode()[:20])
    EventLog(path).append(Phase(name="two"))
    EventLog(path).append(Phase(name="three"))
    assert [event.name for event in read_events(path)[0] if isinstance(event, Phase)] == ["two", "three"]


def test_an_unknown_event_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"type": "from-the-future"}\nnot json\n')
    EventLog(path).append(Phase(name="known"))
    assert len(read_events(path)[0]) == 1


def test_no_file_is_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none") == ([], 0)
