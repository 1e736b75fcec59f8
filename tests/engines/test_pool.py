"""The pool with real child processes: sharing, waiting, cancelling, and surviving a killed child.

Where any engine will do it is a build, whose process starts in a second because it needs no torch.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from phi3tune.engines import pool as pool_module
from phi3tune.engines.base import Chunk, Completion, EngineError, Guide, Request, Sampling, collect
from phi3tune.engines.models import ModelRef
from phi3tune.engines.pool import SLOTS, Pool
from phi3tune.engines.process import ChildProcess
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import UserError
from phi3tune.paths import PACKAGE, write_manifest
from phi3tune.system import Memory

pytestmark = [pytest.mark.slow, pytest.mark.alone]
PROMPT = [32010, 6324, 727, 32007, 32001]
LONG = Request(PROMPT, Sampling(max_new_tokens=400))
SHORT = Request(PROMPT, Sampling(max_new_tokens=8))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3tune.system.cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def shared() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> ModelRef:
    return ModelRef(str(tiny_model), "base", "torch", tiny_model)


@pytest.fixture(scope="module")
def build(fp32_build: Path) -> ModelRef:
    return ModelRef(str(fp32_build), "build", "onnxruntime-genai", fp32_build)


@pytest.fixture(scope="module")
def tuned(tiny_model: Path, adapters: dict[str, Path]) -> list[ModelRef]:
    return [ModelRef(name, name, "torch", tiny_model, folder) for name, folder in adapters.items()]


def pids(pool: Pool) -> list[int]:
    return [process.pid for place in pool._places.values() if (process := place.running()) is not None]


def process_of(pool: Pool, ref: ModelRef) -> ChildProcess:
    process = pool._places[ref.loaded].process
    assert process is not None
    return process


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.02)


def test_base_and_tuned_from_the_same_child(
    shared: Pool, base: ModelRef, tuned: list[ModelRef], torch_engine: TorchEngine
) -> None:
    assert shared.state(base) == "not loaded"
    answers = [collect(shared.stream(ref, SHORT)).token_ids for ref in (base, *tuned)]
    assert len(pids(shared)) == 1
    assert {shared.state(ref) for ref in (base, *tuned)} == {"ready"}
    expected = [collect(torch_engine.with_adapter(name).stream(SHORT)) for name in (None, "run.one", "run.two")]
    assert answers == [answer.token_ids for answer in expected]
    infos = [shared.info(ref) for ref in (base, *tuned)]
    assert [info.name for info in infos] == ["base", "run.one", "run.two"]
    assert infos[0].size_bytes < infos[1].size_bytes


def test_a_build_has_its_own_child(shared: Pool, build: ModelRef, torch_engine: TorchEngine) -> None:
    answer = collect(shared.stream(build, SHORT))
    assert answer.token_ids == torch_engine.generate([SHORT])[0].token_ids
    modules = psutil.Process(process_of(shared, build).pid).memory_maps()
    assert not any("libtorch" in module.path for module in modules), "a build needs no torch"


def test_the_next_turn_is_paid_for(shared: Pool, base: ModelRef) -> None:
    first = collect(shared.stream(base, SHORT))
    turn = [*PROMPT, *first.token_ids, 32007, 32001]
    second = collect(shared.stream(base, Request(turn, Sampling(4))))
    assert second.usage.cached_tokens == len(PROMPT) + len(first.token_ids) - 1


def test_many_threads(shared: Pool, base: ModelRef, tuned: list[ModelRef]) -> None:
    alone = {ref.label: collect(shared.stream(ref, SHORT)).token_ids for ref in (base, *tuned)}
    answers: list[tuple[str, Completion]] = []

    def ask(ref: ModelRef) -> None:
        answers.append((ref.label, collect(shared.stream(ref, SHORT))))

    threads = [threading.Thread(target=ask, args=(ref,)) for ref in (base, *tuned) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(answers) == 12
    assert all(answer.token_ids == alone[label] for label, answer in answers)


def test_cancel(shared: Pool, base: ModelRef) -> None:
    collect(shared.stream(base, SHORT))
    stop = threading.Event()
    chunks: list[Chunk] = []
    for chunk in shared.stream(base, LONG, stop.is_set):
        chunks.append(chunk)
        if len(chunks) == 2:
            stop.set()
    assert chunks[-1].finish_reason == "cancelled"
    assert chunks[-1].usage is not None
    assert 2 <= chunks[-1].usage.completion_tokens < 400
    assert collect(shared.stream(base, SHORT)).finish_reason == "length"


def test_cancel_while_waiting(shared: Pool, base: ModelRef) -> None:
    collect(shared.stream(base, SHORT))
    others = [shared.stream(base, LONG) for _ in range(SLOTS)]
    for other in others:
        next(other)
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    answer = collect(shared.stream(base, SHORT, stop.is_set))
    assert (answer.finish_reason, answer.token_ids) == ("cancelled", ())
    for other in others:
        other.close()


def test_an_absent_reader_holds_nobody_up(shared: Pool, base: ModelRef) -> None:
    slow = shared.stream(base, Request(PROMPT, Sampling(max_new_tokens=60)))
    first = next(slow)
    assert collect(shared.stream(base, SHORT)).finish_reason == "length"  # though `slow` was read no further
    rest = list(slow)
    assert rest[-1].finish_reason == "length"
    assert len(first.token_ids) + sum(len(chunk.token_ids) for chunk in rest) == 60


def test_a_closed_stream_stops_the_child(shared: Pool, base: ModelRef) -> None:
    stream = shared.stream(base, LONG)
    next(stream)
    stream.close()
    wait_for(lambda: shared.busy == 0, seconds=1.0)


def test_answers_under_way_take_turns(shared: Pool, build: ModelRef) -> None:
    """Of equal answers asked for one after the other, none is done before another has begun."""
    request = Request(PROMPT, Sampling(max_new_tokens=300, logit_bias=dict.fromkeys((32000, 32001, 32007), -100.0)))
    alone = collect(shared.stream(build, request))
    began, ended, answers = [], [], []

    def ask(user: int) -> None:
        chunks = []
        for chunk in shared.stream(build, request):
            if not chunks:
                began.append(time.monotonic())
            chunks.append(chunk)
        ended.append(time.monotonic())
        answers.append(collect(chunks).token_ids)

    threads = [threading.Thread(target=ask, args=(user,)) for user in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert answers == [alone.token_ids] * 4
    assert max(began) < min(ended)


def test_two_processes_take_turns(shared: Pool, base: ModelRef, build: ModelRef) -> None:
    for ref in (base, build):
        collect(shared.stream(ref, SHORT))
    streams = [shared.stream(ref, LONG) for ref in (base, build)]
    for stream in streams:
        assert next(stream).finish_reason is None
    assert shared._processor._running in [process_of(shared, ref) for ref in (base, build)]
    assert [list(stream)[-1].finish_reason for stream in streams] == ["length", "length"]
    assert shared.busy == 0


def test_mistakes_come_back_as_errors(shared: Pool, base: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="context is 512"):
        collect(shared.stream(base, Request([5] * 600)))
    with pytest.raises(RuntimeError, match="at least one token"):
        collect(shared.stream(base, Request([])))
    pid = pids(shared)
    assert collect(shared.stream(base, SHORT)).finish_reason == "length"
    assert pids(shared) == pid, "a mistake does not cost the process"
    with pytest.raises(UserError, match="has no tokenizer"):
        collect(shared.stream(ModelRef("x", "x", "onnxruntime-genai", tmp_path), SHORT))


def test_altered_adapter_is_refused(
    shared: Pool, base: ModelRef, tiny_model: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(adapters["run.one"], tmp_path / "adapter")
    ref = ModelRef("r", "r", "torch", tiny_model, folder, run="r")
    with pytest.raises(UserError, match="never completed"):
        collect(shared.stream(ref, SHORT))
    write_manifest(folder)
    with (folder / "adapter_model.safetensors").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(UserError, match="altered"):
        collect(shared.stream(ref, SHORT))
    assert collect(shared.stream(base, SHORT)).finish_reason == "length"


def test_killed_child(pool: Pool, build: ModelRef) -> None:
    before = collect(pool.stream(build, SHORT)).token_ids
    stream = pool.stream(build, LONG)
    next(stream)
    os.kill(pids(pool)[0], signal.SIGKILL)
    with pytest.raises(EngineError, match=r"engine of build ended \(killed by SIGKILL") as caught:
        collect(stream)
    assert caught.value.exit_code == 1
    assert pool.state(build) == "not loaded"
    start = time.monotonic()
    assert collect(pool.stream(build, SHORT)).token_ids == before
    assert time.monotonic() - start < 10
    os.kill(pids(pool)[0], signal.SIGKILL)  # between two requests: the next one notices nothing
    wait_for(lambda: pool.state(build) == "not loaded")
    assert collect(pool.stream(build, SHORT)).token_ids == before


def test_loading_is_visible_and_can_be_cancelled(pool: Pool, build: ModelRef) -> None:
    seen: list[str] = []

    def cancelled() -> bool:
        seen.append(pool.state(build))
        shares.append(pool.progress(build))
        return shares[-1] is not None and shares[-1] > 0

    shares: list[float | None] = []
    assert pool.progress(build) is None
    assert collect(pool.stream(build, SHORT, cancelled)).finish_reason == "cancelled"
    assert "loading" in seen
    assert pool.progress(build) is None
    assert pool.state(build) == "not loaded"
    assert pids(pool) == []


def test_idle_children_make_room(build: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [build]
    for name in ("second", "third"):
        folder = shutil.copytree(build.base, tmp_path / name)
        refs.append(ModelRef(name, name, build.kind, folder))
    pool = Pool(max_children=2)
    try:
        for ref in refs:
            pool.info(ref)
        assert [pool.state(ref) for ref in refs] == ["not loaded", "ready", "ready"]
        assert set(pool.memory) == {"second", "third"}
        stream = pool.stream(refs[2], LONG)
        next(stream)
        monkeypatch.setattr("phi3tune.system.memory", lambda: Memory(2**40, 0))
        pool.info(build)
        assert [pool.state(ref) for ref in refs] == ["ready", "not loaded", "ready"], "one in use is never closed"
        assert list(stream)[-1].finish_reason == "length"
        assert pool.unload(refs[2]) and pool.state(refs[2]) == "not loaded"
        monkeypatch.setattr("phi3tune.system.memory", lambda: Memory(10**6, 10**6))
        with pytest.raises(UserError, match="needs about"):
            pool.info(refs[1])
    finally:
        pool.close()


def test_a_folder_written_anew_is_loaded_anew(pool: Pool, build: ModelRef, tmp_path: Path) -> None:
    folder = shutil.copytree(build.base, tmp_path / "int4")
    ref = ModelRef("b", "b", "onnxruntime-genai", folder)
    pool.info(ref)
    (first,) = pids(pool)
    pool.info(ref)
    assert pids(pool) == [first]
    (folder / "genai_config.json").touch()
    pool.info(ref)
    assert pids(pool) != [first]


def test_close_ends_everything(pool: Pool, build: ModelRef) -> None:
    stream = pool.stream(build, LONG)
    next(stream)
    (pid,) = pids(pool)
    pool.close()
    assert not psutil.pid_exists(pid)
    with pytest.raises(EngineError):
        collect(stream)
    with pytest.raises(EngineError, match="program is ending"):
        collect(pool.stream(build, SHORT))


def test_children_end_with_their_parent(build: ModelRef) -> None:
    code = (
        "import os, sys; from pathlib import Path; from phi3tune.engines.models import ModelRef; "
        "from phi3tune.engines.pool import Pool; pool = Pool(); base = Path(sys.argv[1]); "
        "pool.info(ModelRef('b', 'b', 'onnxruntime-genai', base)); "
        "print(pool._places[base].process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.run(
        [sys.executable, "-c", code, str(build.base)], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert parent.returncode == -9
    pid = int(parent.stdout)
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_one_pool_for_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3tune.engines.pool._shared", None)
    first = pool_module.shared()
    assert pool_module.shared() is first
    assert (first.busy, first.memory) == (0, {})
    first.close()


def test_structured_answers_come_through(shared: Pool, build: ModelRef) -> None:
    schema = {"properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    guide = Guide("json_schema", json.dumps({"type": "object", **schema}))
    sampling = Sampling(40, guide=guide, logprobs=2, stop=("}x",))
    answer = collect(shared.stream(build, Request(PROMPT, sampling)))
    assert json.loads(answer.text)["n"] in (1, 2)
    assert len(answer.logprobs) == len(answer.token_ids)
    with pytest.raises(UserError, match="JSON schema is not accepted"):
        collect(shared.stream(build, Request(PROMPT, Sampling(guide=Guide("json_schema", '{"type": 1}')))))


def test_the_pool_itself_is_light() -> None:
    code = (
        "import sys; import phi3tune.engines.pool, phi3tune.engines.child; "
        "heavy = {'torch', 'transformers', 'gradio', 'onnxruntime_genai', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
