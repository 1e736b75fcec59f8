"""The model card (README.md) of merged weights, an adapter or a build: what it is, from what, and how good."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from phi3tune.engines.folders import CLASSIFIER, PARITY, PORTABLE, read_json
from phi3tune.evaluation import markdown
from phi3tune.evaluation.markdown import escaped, table
from phi3tune.export import page, provenance, words
from phi3tune.export.provenance import Provenance, public_name
from phi3tune.paths import Workspace, write_text

FILE = "README.md"


def write(folder: Path, workspace: Workspace, *, name: str) -> None:
    """Write the card of the model in `folder` beside its files, and its parity report as a page where it has one.

    `name` is what the folder will be called.
    """
    write_text(folder / FILE, text(folder, workspace, name=name))
    if (folder / PARITY).is_file():
        home = provenance.of(folder, workspace)
        page.write(folder, read_json(folder / PARITY), f"{home.run or home.base}, {name}")


def text(folder: Path, workspace: Workspace, *, name: str | None = None, repo: str | None = None) -> str:
    """The card, made from what the workspace knows now. `repo` is where the model is published.

    It names the data and never quotes it, and holds no path of this machine.
    """
    made = provenance.of(folder, workspace)
    form = _form(folder)
    parity = read_json(folder / PARITY) if (folder / PARITY).is_file() else None
    title = repo.partition("/")[2] if repo else f"{made.run or made.base}, {name or folder.name}"
    parts = [
        f"# {escaped(title)}",
        _what(form, made),
        words.verdict(parity) if parity else "",
        _use(form, repo, folder),
        _training(made),
        markdown.section(made.report).rstrip() if made.report else "",
        _parity(parity) if parity else "",
        _limits(form, folder, made),
    ]
    head = yaml.safe_dump(_head(form, made), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _form(folder: Path) -> str:
    if (folder / "genai_config.json").is_file():
        return "onnx"
    if (folder / PORTABLE).is_file():
        return "portable"
    if any(folder.glob("*.onnx_adapter")):
        return "onnx-adapter"
    return "adapter" if (folder / "adapter_config.json").is_file() else "merged"


def _head(form: str, made: Provenance) -> dict[str, Any]:
    """Metadata that the Hub reads."""
    relation = {"adapter": "adapter", "merged": "finetune"}.get(form, "quantized")
    library = {"adapter": "peft", "merged": "transformers"}.get(form, "onnxruntime-genai")
    classifies = made.settings.get("task") == "classification"
    head: dict[str, Any] = {
        "library_name": "onnxruntime" if form == "portable" else library,
        "pipeline_tag": "text-classification" if classifies else "text-generation",
        "tags": ["phi3", "phi3tune", *(["onnx"] if "onnx" in (form, form[:4]) or form == "portable" else [])],
    }
    if made.licence:
        head = {"license": made.licence, **head}
    if made.hub:
        head |= {"base_model": made.base, "base_model_relation": relation}
    return head


def _what(form: str, made: Provenance) -> str:
    what = {
        "merged": "Whole weights, with the adapter merged into them",
        "adapter": "A LoRA adapter",
        "onnx": "An ONNX build for onnxruntime-genai",
        "portable": "An ONNX build for any ONNX runtime",
        "onnx-adapter": "A LoRA adapter for an ONNX build of its base in onnxruntime-genai",
    }[form]
    link = f"[{escaped(made.base)}](https://huggingface.co/{made.base})" if made.hub else escaped(made.base)
    tuned = f"{link}, fine-tuned" if made.run else link
    licence = escaped(made.licence) if made.licence else "not known here; that of the base applies"
    return f"{what}. Model: {tuned}. Licence of the base: {licence}. Made with phi3tune."


def _use(form: str, repo: str | None, folder: Path) -> str:
    place = repo or "path/to/this/folder"
    name = json.dumps(place)
    if form == "onnx":
        context = read_json(folder / "genai_config.json")["model"].get("context_length", 1024)
        fetched = f"snapshot_download({name})" if repo else name
        imports = "import json\n\n" + ("from huggingface_hub import snapshot_download\n" if repo else "")
        code = (
            f"{imports}import onnxruntime_genai as og\n\n"
            f"model = og.Model({fetched})\n"
            "tokenizer = og.Tokenizer(model)\n"
            'chat = [{"role": "user", "content": "Hello!"}]\n'
            "prompt = tokenizer.apply_chat_template(json.dumps(chat), add_generation_prompt=True)\n"
            "params = og.GeneratorParams(model)\n"
            f"params.set_search_options(max_length={min(1024, context)}, do_sample=False)\n"
            "generator = og.Generator(model, params)\n"
            "generator.append_tokens(tokenizer.encode(prompt))\n"
            "while not generator.is_done():\n    generator.generate_next_token()\n"
            "print(tokenizer.decode(generator.get_sequence(0)))"
        )
        return _code(code)
    if form == "portable":
        names = "input_ids and attention_mask, int64 [batch, tokens], to logits, float32"
        code = f'import onnxruntime\n\nsession = onnxruntime.InferenceSession("{place}/model.onnx")  # {names}'
        return _code(code)
    if form == "onnx-adapter":
        file = next(folder.glob("*.onnx_adapter")).name
        code = (
            "adapters = og.Adapters(model)  # of the build of the base that base.json names by its hash\n"
            f'adapters.load("{file}", "tuned")\ngenerator.set_active_adapter(adapters, "tuned")'
        )
        return _code(code)
    if form == "adapter":
        return _code(f"from peft import AutoPeftModelForCausalLM\n\nAutoPeftModelForCausalLM.from_pretrained({name})")
    if CLASSIFIER in (read_json(folder / "config.json").get("architectures") or []):
        return _code(f'from transformers import pipeline\n\npipeline("text-classification", {name})("…")')
    code = (
        f'from transformers import pipeline\n\nchat = pipeline("text-generation", {name})\n'
        'chat([{"role": "user", "content": "Hello!"}], max_new_tokens=128)'
    )
    return _code(code) + f"\n\nOr as an endpoint with vLLM:\n\n```\nvllm serve {place}\n```"


def _code(code: str) -> str:
    return f"## Use\n\n```python\n{code}\n```"


def _training(made: Provenance) -> str:
    if not made.run:
        return ""
    rows = [[name.replace("_", " "), escaped(_shown(value))] for name, value in made.settings.items()]
    data = escaped(made.data["name"]) if made.data.get("name") else "not known any more"
    if made.data.get("sha256"):
        data += f", sha256 `{made.data['sha256']}`"
    return f"## Training\n\nData: {data}. The data is not part of this repository.\n\n" + table(
        ["Setting", "Value"], rows
    )


def _parity(parity: Mapping[str, Any]) -> str:
    data = parity.get("data") or {}
    source = f", the {data['part']} part of {escaped(public_name(data['dataset']))}" if data else ""
    told = f"On {parity['rows']:,} held-out conversations{source}, against the weights that it was made from."
    header, rows = words.figures(parity)
    parts = ["## Parity", told, table(header, rows), words.remark(parity)]
    if measured := words.measured(parity.get("measured")):
        parts += ["Measured on the machine that made it:", table(["", "Value"], measured)]
    return "\n\n".join(part for part in parts if part)


def _limits(form: str, folder: Path, made: Provenance) -> str:
    lines = []
    if ends := _end_tokens(folder):
        lines.append(f"An answer ends at {', '.join(f'`{end}`' for end in ends)}: stop at each of them.")
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if length := config.get("max_position_embeddings"):
        lines.append(f"The context is {length:,} tokens, prompt and answer together.")
    if form in ("onnx", "portable", "onnx-adapter"):
        lines.append("Parity says that the build answers like its model, not that the model answers rightly.")
    if made.run:
        lines.append(
            "Fine-tuning can weaken what the base had learned, its refusals included: test before you rely on it."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _end_tokens(folder: Path) -> list[str]:
    generation, tokenizer = folder / "generation_config.json", folder / "tokenizer.json"
    if not generation.is_file() or not tokenizer.is_file():
        return []
    ids = read_json(generation).get("eos_token_id") or []
    names = {token["id"]: token["content"] for token in read_json(tokenizer).get("added_tokens", [])}
    return [names[i] for i in (ids if isinstance(ids, list) else [ids]) if i in names]


def _shown(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
