"""`phi3tune guards` and `phi3tune monitor`, as a person calls them."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from phi3tune.cli import main
from phi3tune.cli.monitor import moment
from phi3tune.errors import UserError
from phi3tune.monitor import RequestLog, RequestRecord
from phi3tune.paths import Workspace

GUARDS = """
- {name: emails, type: personal_data, action: mask}
- {name: words, type: block_list, action: block, on: input, words: [bomb], reply: Not here.}
"""


@pytest.fixture
def guards(tmp_path: Path) -> str:
    path = tmp_path / "guards.yaml"
    path.write_text(GUARDS)
    return str(path)


def test_a_file_of_guards_is_checked(guards: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guards", "check", guards]) == 0
    assert "emails, words" in capsys.readouterr().err
    assert main(["guards", "check", guards, "write to a@example.com"]) == 0
    assert capsys.readouterr() == ("write to [emails]\n", "emails: mask, email_address\nmask\n")
    assert main(["guards", "check", guards, "a bomb", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "action": "block",
        "hits": [{"guard": "words", "action": "block", "what": "phrase"}],
        "text": None,
    }
    assert main(["guards", "check", guards, "a bomb", "--side", "output"]) == 0
    assert main(["guards", "check", guards, "a bomb", "--side", "left"]) == 2
    assert main(["guards", "check", f"{guards}.none"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_types_of_guards_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guards", "types", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["block_list", "regex", "secrets", "personal_data", "classifier", "moderation"]
    assert all(sentence.endswith(".") for settings in told.values() for sentence in settings.values())


def test_the_monitor_is_shown_rated_and_purged(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor"]) == 0
    assert "no request since" in capsys.readouterr().err
    log = RequestLog(workspace)
    for number, status in enumerate((200, 200, 500)):
        log.add(
            RequestRecord(
                id=f"chatcmpl-{number}",
                time=time.time() - 60,
                model="phi3-nano",
                kind="chat",
                status=status,
                seconds=1.5,
                first_token_seconds=0.5,
                prompt_tokens=7,
                completion_tokens=11,
                error_code="server_error" if status == 500 else None,
            )
        )
    log.close()
    assert main(["monitor", "rate", "chatcmpl-1", "bad"]) == 0
    assert main(["monitor", "rate", "chatcmpl-1", "awful"]) == 2
    capsys.readouterr()
    assert main(["monitor", "--since", "1h"]) == 0
    shown = capsys.readouterr().out
    for text in ("3 requests", "1 refused or failed", "500 server_error", "0 good, 1 bad", "was not tuned here"):
        assert text in shown
    assert main(["monitor", "--json", "--model", "phi3-nano"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], told["tokens_per_second"]["p50"]) == (3, 10.0)
    assert told["drift"][0]["model"] == "phi3-nano"
    assert main(["monitor", "purge", "--before", "1d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": 0}
    assert main(["monitor", "purge", "--before", "0s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": 3}


def test_moments() -> None:
    assert moment("90s", 1_000.0) == 910.0
    assert moment(" 1.5h ", 10_000.0) == 4_600.0
    assert moment("2w", 2_000_000.0) == 2_000_000.0 - 14 * 86_400
    assert moment("2026-01-31", 0.0) == datetime(2026, 1, 31).timestamp()
    for wrong in ("yesterday", "3x", "", "-1h"):
        with pytest.raises(UserError, match="is no time"):
            moment(wrong, 0.0)
