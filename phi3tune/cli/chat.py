"""`phi3tune chat`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from phi3tune.cli import plain_typer
from phi3tune.cli.flags import config_flags
from phi3tune.cli.follow import say
from phi3tune.config import SamplingConfig, parse
from phi3tune.paths import Workspace

app = plain_typer()


@app.command()
@config_flags(SamplingConfig)
def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="phi3-nano, a run, a build or a folder.")] = "phi3-nano",
    *,
    settings: dict[str, Any],
) -> None:
    """Talk to a model in the terminal. Ctrl+C ends an answer; an empty line or Ctrl+D ends the chat.

    A classifier answers each text for itself, with its labels and their probabilities.
    """
    sampling = parse(SamplingConfig, settings)
    from phi3tune.engines import models, open_engine
    from phi3tune.engines.base import Engine

    ref = models.resolve(model, Workspace.current())
    say(f"loading {ref.label}")
    engine: Engine = open_engine(ref)
    messages: list[Any] = [{"role": "system", "content": sampling.system}] if sampling.system else []
    try:
        while question := _ask():
            if "classify" in engine.info.can:
                _show_labels(engine, [*messages, {"role": "user", "content": question}])
                continue
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": _answer(engine, messages, sampling)})
    finally:
        engine.close()


def _ask() -> str:
    if sys.stdin.isatty():
        sys.stderr.write("> ")
        sys.stderr.flush()
    return sys.stdin.readline().strip()


def _show_labels(engine: Any, messages: list[Any]) -> None:
    for label, share in engine.classify([messages])[0]["scores"].items():
        sys.stdout.write(f"{label} {share:.1%}\n")
    sys.stdout.flush()


def _answer(engine: Any, messages: list[Any], config: SamplingConfig) -> str:
    from phi3tune.engines.base import Sampling, chat_request

    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, config.seed)
    request = chat_request(engine, messages, sampling)
    text = ""
    try:
        for chunk in engine.stream(request, lambda: False):
            text += chunk.text
            sys.stdout.write(chunk.text)
            sys.stdout.flush()
            if chunk.usage is not None:
                say(
                    f"\n[first token {chunk.usage.first_token_seconds:.2f} s, "
                    f"{chunk.usage.tokens_per_second or 0.0:,.0f} tok/s, {chunk.usage.completion_tokens} tokens, "
                    f"{chunk.finish_reason}]"
                )
    except KeyboardInterrupt:
        say("\n[stopped]")
    return text
