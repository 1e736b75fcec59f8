"""How to ask an endpoint, to copy: curl, Python, JavaScript."""

from __future__ import annotations

import json

_QUESTION = "Hello! Who are you?"


def snippets(url: str, model: str, key_hint: str = "YOUR_KEY") -> dict[str, str]:
    """Programs that ask `model` one question, by language: `curl`, `python`, `javascript`.

    `url` ends in /v1; `key_hint` stands where the key belongs.
    """
    base, name, key = json.dumps(url), json.dumps(model), json.dumps(key_hint)  # JSON text is a literal of all three
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": _QUESTION}]}, indent=2)
    return {
        "curl": (
            f"curl {_quoted(f'{url}/chat/completions')} \\\n"
            f"  -H {_quoted(f'Authorization: Bearer {key_hint}')} \\\n"
            f"  -H 'Content-Type: application/json' \\\n"
            f"  -d {_quoted(body)}\n"
        ),
        "python": (
            "from openai import OpenAI  # pip install openai\n\n"
            f"client = OpenAI(base_url={base}, api_key={key})\n"
            "stream = client.chat.completions.create(\n"
            f"    model={name},\n"
            f'    messages=[{{"role": "user", "content": {json.dumps(_QUESTION)}}}],\n'
            "    stream=True,\n"
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
            f"  model: {name},\n"
            f'  messages: [{{ role: "user", content: {json.dumps(_QUESTION)} }}],\n'
            "  stream: true,\n"
            "});\n"
            "for await (const chunk of stream) {\n"
            '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n'
            "}\n"
        ),
    }


def _quoted(text: str) -> str:
    """One word of a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"
