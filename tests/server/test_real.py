"""The endpoint over the real pool with phi3-nano, asked by the official client; and the command in a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from phi3tune.engines.pool import Pool
from phi3tune.paths import Workspace
from phi3tune.server.running import Server
from tests.server.conftest import running, wait_for

pytestmark = pytest.mark.slow
SCHEMA = {
    "type": "object",
    "properties": {"size": {"enum": ["small", "large"]}},
    "required": ["size"],
    "additionalProperties": False,
}
MESSAGES: Any = [{"role": "user", "content": "What is 2 + 2?"}]
LONG: Any = [{"role": "user", "content": "Count from one to a thousand."}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pool = Pool()
    try:
        with running(pool, Workspace(tmp_path_factory.mktemp("workspace"))) as server:
            server.app.state.pool = pool
            yield server
    finally:
        pool.close()


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def chat(client: openai.OpenAI, **more: Any) -> Any:
    given = {"model": "phi3-nano", "messages": MESSAGES, "temperature": 0, "max_tokens": 40, **more}
    return client.chat.completions.create(**given)


def test_plain_and_streamed_answers_are_the_same(client: openai.OpenAI) -> None:
    plain = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content != ""
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == plain.usage.prompt_tokens
    assert chunks[0].system_fingerprint == plain.system_fingerprint


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    drawn = [chat(client, temperature=1.8, seed=seed).choices[0].message.content for seed in (3, 3, 4, 5)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_stop_ends_an_answer_before_it(client: openai.OpenAI) -> None:
    text = chat(client).choices[0].message.content
    word = text.split()[-1]
    cut = chat(client, stop=[word])
    assert cut.choices[0].message.content == text[: text.index(word)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_json_schema_is_satisfied(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "size", "schema": SCHEMA}}
    for stream in (False, True):
        answer = chat(client, temperature=1, response_format=form, stream=stream)
        text = answer.choices[0].message.content if not stream else _text(answer)
        assert json.loads(text)["size"] in ("small", "large")


def _text(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_log_probabilities_are_those_of_the_answer(client: openai.OpenAI) -> None:
    [choice] = chat(client, logprobs=True, top_logprobs=3).choices
    told = choice.logprobs.content
    assert "".join(token.token for token in told).strip() == choice.message.content.strip()
    for token in told:  # greedy: the token that was taken is the likeliest
        assert token.logprob == max(other.logprob for other in token.top_logprobs) <= 0


def test_several_answers(client: openai.OpenAI) -> None:
    answer = chat(client, n=3)
    assert len({choice.message.content for choice in answer.choices}) == 1


def test_a_disconnect_frees_the_engine(client: openai.OpenAI, server: Server) -> None:
    stream = chat(client, messages=LONG, max_tokens=900, temperature=2, stream=True, logit_bias={"3": -100})
    next(iter(stream))
    stream.close()
    wait_for(lambda: server.app.state.server._line.inside == 0, 1)


def test_a_crash_is_told_and_got_over(client: openai.OpenAI, server: Server) -> None:
    before = chat(client).choices[0].message.content
    # Those of earlier tests may be dead and not yet taken leave of.
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    children = [child for child in living if "phi3tune.engines.child" in child.cmdline()]
    stream = chat(client, messages=LONG, max_tokens=900, temperature=2, stream=True, logit_bias={"3": -100})
    next(iter(stream))
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(stream)
    began = time.monotonic()
    assert chat(client).choices[0].message.content == before
    assert time.monotonic() - began < 30  # 10 on a quiet machine; see benchmarks/endpoint_load.py


def test_the_command(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("only-this-one\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "phi3tune", "serve", "phi3-nano", "--port", port]
    process = subprocess.Popen(
        [*command, "--api-key-file", str(keys), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told == {"url": f"http://127.0.0.1:{port}/v1", "models": ["phi3-nano"]}
        assert httpx.get(told["url"].replace("/v1", "/health")).json() == {"status": "ok"}
        assert httpx.get(f"{told['url']}/models").status_code == 401
        with openai.OpenAI(base_url=told["url"], api_key="only-this-one", max_retries=0) as client:
            assert chat(client).choices[0].message.content
            again = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert again.returncode == 2 and port in again.stderr
        engines = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        process.terminate()
        assert process.wait(20) == 0
        assert time.monotonic() - began < 5
        assert psutil.wait_procs(engines, timeout=5)[1] == []
    finally:
        process.kill()
        process.communicate()
