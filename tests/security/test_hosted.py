"""The hosted app as a stranger meets it: paths, floods, and what its answers give away of the owner's machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from phi3tune.paths import Workspace
from tests.security.calls import Stranger
from tests.security.conftest import SECRET, Watched, start
from tests.security.test_arguments import PASSWORDS, absurd, answers, together
from tests.security.test_uploads import BOUNDARY, MEMORY, PART, chunk, connect, files, flood, until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TOKEN = "hf_canaryOfTheOwner4711"


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    home = tmp_path_factory.mktemp("hosted")
    places = {"PHI3TUNE_MODE": "hosted", "HF_TOKEN": TOKEN}
    with start(home, Workspace(home / "workspace"), **places) as watched:
        yield watched


@pytest.fixture(scope="module")
def visitors(hosted: Watched) -> list[Stranger]:
    return [Stranger(hosted.url) for _ in range(4)]


def test_no_argument_opens_a_file_and_no_answer_tells_of_the_machine(visitors: list[Stranger], hosted: Watched) -> None:
    handlers = visitors[0].distinct()
    own = str(hosted.canary)
    home = str(hosted.workspace.root)
    for path in (own, PASSWORDS):
        for handler, answer, _ in answers(visitors, together(handlers, path), {"run": path, "place": path}):
            assert SECRET not in answer and "root:x:" not in answer, handler
            assert TOKEN not in answer and "Traceback" not in answer, handler
            assert home not in answer, (handler, answer)
    assert hosted.saw("open") == []
    assert hosted.leaked() == [] and hosted.leaked("root:x:0") == []


def test_no_number_is_unbounded(visitors: list[Stranger], hosted: Watched) -> None:
    before = hosted.memory()
    for handler, answer, seconds in answers(visitors, absurd(visitors[0].distinct())):
        assert seconds < 20 and "Traceback" not in answer, handler
    assert hosted.memory() - before < MEMORY


def test_the_page_and_its_errors_tell_nothing_of_the_machine(hosted: Watched) -> None:
    def asked(method: str, path: str, **body: object) -> httpx.Response:
        return httpx.request(method, f"{hosted.url}{path}", json=body or None, timeout=60)

    told = [
        asked("GET", path) for path in ("/", "/config", "/gradio_api/info", "/nowhere", "/gradio_api/file=/etc/passwd")
    ]
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
        told += [asked("POST", path, session_hash=f"{path}-1"), asked("POST", path, data="x", session_hash=f"{path}-2")]
        told.append(asked("POST", path, fn_index=10**9, data=[], session_hash=f"{path}-3"))
    assert {answer.status_code for answer in told} >= {200, 403, 404, 422, 500}
    for answer in told:
        for word in (str(hosted.workspace.root), str(ROOT), TOKEN, "Traceback", "site-packages"):
            assert word not in answer.text, (answer.url, word)


def test_an_upload_without_end_is_refused_at_the_cap(hosted: Watched) -> None:
    before, kept = hosted.memory(), files(hosted)
    answer, sent = flood(hosted, "/gradio_api/upload", f"multipart/form-data; boundary={BOUNDARY}", first=PART)
    assert b" 413 " in answer.splitlines()[0]
    assert b"25000000 bytes" in answer  # Gradio names the limit, as the page does before it sends anything
    assert sent < 60e6
    assert hosted.memory() - before < MEMORY
    until(lambda: files(hosted) == kept)


def test_an_upload_that_breaks_off_leaves_nothing(hosted: Watched) -> None:
    kept = files(hosted)
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    with connect(hosted, "/gradio_api/upload", kind, "Transfer-Encoding: chunked") as connection:
        connection.sendall(chunk(PART) + chunk(b"a" * 2**20))
        until(lambda: len(files(hosted)) > len(kept))
    until(lambda: files(hosted) == kept)
