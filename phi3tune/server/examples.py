"""How to ask an endpoint, to copy: curl, Python, JavaScript."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_QUESTION = [{"role": "user", "content": "Hello! Who are you?"}]
_NOT_OPENAI = ("top_k", "repetition_penalty")  # OpenAI's Python client takes these in extra_body only


def snippets(
    url: str, model: str, key_hint: str = "YOUR_KEY", asked: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Programs that ask `model` a question, by language: `curl`, `python`, `javascript`.

    `url` ends in /v1; `key_hint` stands where the key belongs. `asked` is what a request holds beside the model:
    `messages` and settings by their names in it; a greeting where it is None.
    """
    request = {"model": model, **(asked or {"messages": _QUESTION})}
    own = {name: request[name] for name in _NOT_OPENAI if name in request}
    named = [(name, _literal(value)) for name, value in request.items() if name not in own]
    if own:
        named.append(("extra_body", _literal(own)))
    base, key = _literal(url), _literal(key_hint)
    return {
        "curl": (
            f"curl {_quoted(f'{url}/chat/completions')} \\\n"
            f"  -H {_quoted(f'Authorization: Bearer {key_hint}')} \\\n"
            f"  -H 'Content-Type: application/json' \\\n"
            f"  -d {_quoted(json.dumps(request, indent=2, ensure_ascii=False))}\n"
        ),
        "python": (
            "from openai import OpenAI  # pip install openai\n\n"
            f"client = OpenAI(base_url={base}, api_key={key})\n"
            "stream = client.chat.completions.create(\n"
            + "".join(f"    {name}={value},\n" for name, value in named)
            + "    stream=True,\n"
            ")\n"
            "for chunk in stream:\n"
            "    if chunk.choices:\n"
            '        print(chunk.choices[0].delta.content or "", end="", flush=True)\n'
            "print()\n"
        ),
        "javascript": (
            'import OpenAI from "openai"; // npm install openai\n\n'
            f"const client = new OpenAI({{ baseURL: {base}, apiKey: {key} }});\n"
            "const stream = await client.chat.completions.create({\n"
            + "".join(f"  {name}: {_literal(value, '  ')},\n" for name, value in request.items())
            + "  stream: true,\n"
            "});\n"
            "for await (const chunk of stream) {\n"
            '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n'
            "}\n"
        ),
    }


def _literal(value: Any, indent: str = "    ") -> str:
    """JSON text, which is a literal of all three languages; a list of messages has one on each line."""
    if isinstance(value, list) and len(value) > 1 and isinstance(value[0], dict):
        return "[\n" + "".join(f"{indent * 2}{_literal(item)},\n" for item in value) + f"{indent}]"
    return json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    """One word of a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"
