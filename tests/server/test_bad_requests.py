"""Whatever is wrong with a request is told in OpenAI's error object, which names the parameter, at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import HELLO
from tests.server.fake_pool import CONTEXT, FakePool

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
Make = Callable[..., TestClient]


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def check(answer: Any, status: int, param: str | None, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == (param, code), error
    assert error["message"] and "\n" not in error["message"] and len(error["message"]) < 500


WRONG = [
    ({"messages": []}, "messages", "invalid_value"),
    ({}, "messages", "missing_parameter"),
    ({"messages": "hi"}, "messages", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_parameter"),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role", "unsupported"),
    ({**HELLO, "model": []}, "model", "invalid_value"),
    ({**HELLO, "temperature": -1}, "temperature", "invalid_value"),
    ({**HELLO, "temperature": "hot"}, "temperature", "invalid_value"),
    ({**HELLO, "temperature": 1e999}, "temperature", "invalid_value"),
    ({**HELLO, "top_p": 2}, "top_p", "invalid_value"),
    ({**HELLO, "max_tokens": -1}, "max_tokens", "invalid_value"),
    ({**HELLO, "max_tokens": 10**12}, "max_tokens", "invalid_value"),
    ({**HELLO, "max_tokens": CONTEXT + 1}, "max_tokens", "invalid_value"),
    ({**HELLO, "max_tokens": True}, "max_tokens", "invalid_value"),
    ({**HELLO, "max_completion_tokens": 0}, "max_completion_tokens", "invalid_value"),
    ({**HELLO, "n": 10**9}, "n", "invalid_value"),
    ({**HELLO, "n": 0}, "n", "invalid_value"),
    ({**HELLO, "seed": 2**70}, "seed", "invalid_value"),
    ({**HELLO, "stop": ["x"] * 10_000}, "stop", "invalid_value"),
    ({**HELLO, "stop": ""}, "stop", "invalid_value"),
    ({**HELLO, "logit_bias": {"999999": 1}}, "logit_bias", "invalid_value"),
    ({**HELLO, "logit_bias": {"-1": 1}}, "logit_bias", "invalid_value"),
    ({**HELLO, "logit_bias": {"5": 101}}, "logit_bias.5", "invalid_value"),
    ({**HELLO, "stream": "yes"}, "stream", "invalid_value"),
    ({**HELLO, "stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({**HELLO, "presence_penalty": 3}, "presence_penalty", "invalid_value"),
    ({**HELLO, "top_logprobs": 5}, "top_logprobs", "invalid_value"),
    ({**HELLO, "logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({**HELLO, "tools": [{"type": "function"}]}, "tools", "unsupported"),
    ({**HELLO, "chat_template": "{{ messages }}"}, "chat_template", "unsupported"),
    ({**HELLO, "best_answer": 1}, "best_answer", "unknown_parameter"),
    (
        user([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]),
        "messages[0].content[0].type",
        "unsupported",
    ),
    ({**HELLO, "response_format": {"type": "xml"}}, "response_format", "invalid_value"),
    ({**HELLO, "response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_parameter"),
    (
        {
            **HELLO,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wizard"}}},
        },
        "response_format",
        "invalid_value",
    ),
    ({**HELLO, "response_format": {"type": "regex", "regex": "(a"}}, "response_format", "invalid_value"),
    (user("lamp " * 1000), "messages", "context_length_exceeded"),
]


@pytest.mark.parametrize(("body", "param", "code"), WRONG, ids=lambda value: str(value)[:50])
def test_a_wrong_parameter_is_named(client: Make, body: dict[str, Any], param: str, code: str) -> None:
    began = time.perf_counter()
    answer = client().post(CHAT, content=json.dumps(body), headers=JSON)
    check(answer, 400, param, code)
    assert time.perf_counter() - began < 5  # nothing is made of a number before it is checked


@pytest.mark.parametrize("body", ["[]", "42", "null", '"text"'])
def test_a_body_that_is_no_object(client: Make, body: str) -> None:
    check(client().post(CHAT, content=body, headers=JSON), 400, None, "bad_shape")


@pytest.mark.parametrize("body", ['{"messages": [', "", "{'a': 1}", "\x00", b"\xff\xfe", "[" * 100_000, "1" * 5000])
def test_a_body_that_is_no_json(client: Make, body: str | bytes) -> None:
    answer = client().post(CHAT, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("bad_json", "bad_request", "bad_shape")


def test_half_a_character_breaks_nothing(client: Make) -> None:
    make = client()
    chat = r'"messages": [{"role": "user", "content": "\ud800"}]'
    assert make.post(CHAT, content=f"{{{chat}}}", headers=JSON).status_code == 200
    for more in (r'"\ud800": 1', r'"model": "\ud800"', r'"temperature": "\ud800"'):
        answer = make.post(CHAT, content=f"{{{chat}, {more}}}", headers=JSON)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", None])
def test_other_content_types(client: Make, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    check(client().post(CHAT, content=b"a=b", headers=headers), 415, None, "unsupported_media_type")


def test_an_unknown_model(client: Make) -> None:
    make = client()
    check(make.post(CHAT, json={**HELLO, "model": "gpt-5"}), 404, "model", "model_not_found")
    check(make.get("/v1/models/gpt-5"), 404, "model", "model_not_found")


def test_paths_and_methods_that_do_not_exist(client: Make) -> None:
    make = client()
    check(make.get("/v1/../../etc/passwd"), 404, None, "not_found")
    check(make.get("/%2e%2e/secret"), 404, None, "not_found")
    answer = make.get(CHAT)
    check(answer, 405, None, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_a_large_body_is_refused_at_the_cap(client: Make) -> None:
    body = json.dumps(user("a" * 20_000))
    make = client(max_body=0.01)
    check(make.post(CHAT, content=body, headers=JSON), 413, None, "body_too_large")

    def parts() -> Any:
        yield from (body.encode(), b"never read")

    check(make.post(CHAT, content=parts(), headers=JSON), 413, None, "body_too_large")


def test_plain_prompts_are_checked_too(client: Make) -> None:
    make = client()
    path = "/v1/completions"
    check(make.post(path, json={}), 400, "prompt", "missing_parameter")
    check(make.post(path, json={"prompt": " "}), 400, "prompt", "invalid_value")
    check(make.post(path, json={"prompt": [5, 10**6]}), 400, "prompt", "invalid_value")
    check(make.post(path, json={"prompt": [5] * CONTEXT}), 400, "prompt", "context_length_exceeded")
    check(make.post(path, json={"prompt": "a", "logprobs": 6}), 400, "logprobs", "invalid_value")
    check(make.post(path, json={"prompt": "a", "suffix": "b"}), 400, "suffix", "unsupported")
    check(make.post(path, json={"prompt": "a", "echo": True}), 400, "echo", "invalid_value")


def test_what_an_engine_cannot_do_is_refused(client: Make, pool: FakePool) -> None:
    pool.can = frozenset()
    make = client()
    check(make.post(CHAT, json={**HELLO, "logprobs": True}), 400, "logprobs", "unsupported")
    form = {"type": "json_object"}
    check(make.post(CHAT, json={**HELLO, "response_format": form}), 400, "response_format", "unsupported")
    check(make.post("/classify", json={"input": "a"}), 400, "model", "model_not_supported")


def test_a_fault_is_logged_and_not_told(client: Make, pool: FakePool, caplog: pytest.LogCaptureFixture) -> None:
    pool.fault = lambda request: RuntimeError("the secret of the house")
    answer = client().post(CHAT, json=HELLO)
    check(answer, 500, None, "internal_error")
    assert "secret" not in answer.text
    assert "secret of the house" in caplog.text
