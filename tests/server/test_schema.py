"""The published schema against the endpoint: schemathesis makes requests from it, right and wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from phi3tune.paths import Workspace
from phi3tune.server.running import Server
from tests.server.conftest import running
from tests.server.fake_pool import FakePool

# What is right by the schema may still be too long for the model, or ask for a model that is not served: a refusal of
# such a request is right, so the checks are that errors are documented and that what the schema forbids is refused.
CHECKS: Any = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
SETTINGS = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
OPERATIONS = [
    ("/v1/chat/completions", "post"),
    ("/v1/completions", "post"),
    ("/classify", "post"),
    ("/v1/feedback", "post"),
    ("/v1/models", "get"),
    ("/v1/models/{model}", "get"),
    ("/health", "get"),
    ("/metrics", "get"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(FakePool("Yes"), Workspace(tmp_path_factory.mktemp("workspace"))) as server:
        yield server


@pytest.fixture(scope="module")
def schema(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.url.removesuffix('/v1')}/openapi.json")


def test_all_operations_are_looked_at(schema: Any) -> None:
    published = schema.raw_schema["paths"]
    assert {(path, method) for path, methods in published.items() for method in methods} == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_right_requests(server: Server, schema: Any, path: str, method: str) -> None:
    assert try_out(server, schema[path][method], GenerationMode.POSITIVE)


@pytest.mark.parametrize(("path", "method"), [(path, method) for path, method in OPERATIONS if method == "post"])
def test_wrong_requests(server: Server, schema: Any, path: str, method: str) -> None:
    assert try_out(server, schema[path][method], GenerationMode.NEGATIVE) <= {400, 404}


def try_out(server: Server, operation: Any, mode: GenerationMode) -> set[int]:
    """The statuses of the answers, which were all looked at."""
    statuses = set()

    @SETTINGS
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call(base_url=server.url.removesuffix("/v1"), timeout=10)
        assert answer.status_code < 500, answer.text
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    ask()
    return statuses
