"""Writes the model card from what was measured, so that none of its numbers is typed by hand."""

import json
from pathlib import Path
from typing import Any

from .batches import BLOCK, USER_WEIGHT
from .corpus import BROAD_CONVERSATIONS, TESTED
from .score import by_skill
from .tokenizer import CONTEXT
from .train import Plan, Trained

_HEAD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags:
- phi3
- phi3tune
- demonstration
- tiny
---

# phi3-nano

A very small chat model that comes with phi3tune, so that everything in the app can be tried at once, without a
download and without a GPU. It has the architecture of Phi-3 (`Phi3ForCausalLM`: fused `qkv_proj` and `gate_up_proj`,
rotary positions), the special-token strings of Phi-3 with ids of its own, and the official chat template of
Phi-3-mini-4k-instruct.

**What it is not:** it is not made by Microsoft, holds no weights of Phi-3, and has read no text but the sentences
that its recipe generates. It knows a few dozen simple skills and some small talk. Outside them it says that it does
not know, or answers wrongly. Use it to learn and to test the tools, never for real answers.

## Numbers
"""

_RECIPE = """
## Training text and recipe

All text is generated from word lists and sentence templates in `recipes/phi3_nano/` of the phi3tune repository:
single questions, chats of several turns, chats with a system prompt. The text is broad at first and narrows to the
skills below after {broad:,} conversations. Weights, tokenizer, test questions and this card come from one command:

    python -m recipes.phi3_nano --seed {seed} --steps {steps} --out DIR

This run trained on {tokens:,} tokens in {steps:,} steps (seed {seed}, {minutes:.0f} minutes on two CPU cores,
matrix products in {precision}, weights kept in float32 and stored in bfloat16). Muon updates the matrices inside the
layers, AdamW the embeddings, the head and the norms. The loss covers every token of a chat as the template renders
it; tokens of answers weigh 1, all others {user_weight}.

## Measured

Exact answers in free greedy generation on {rows} held-out questions (`skills/test.jsonl`): each is a combination of
wording and content that the training text leaves out. Measure again with `python -m recipes.phi3_nano score DIR`.

| skill | rows | exact | what it does | a question | its answer |
| --- | ---: | ---: | --- | --- | --- |
"""

_TAIL = """
It also makes small talk: greetings, questions about itself, feelings, jokes, things you told it earlier in the same
chat ("My name is Anna." ... "What is my name?"), and system prompts that give it a name or a way of speaking ("Your
name is Max", "Talk like a pirate").

## Limits

- English only, short prompts; {context:,} tokens at most, though no training chat was longer than {block}.
- Words outside its word lists are often misread. Sums beyond the ranges above are wrong.
- Its facts are the small tables of the recipe. It makes mistakes with full confidence.
- Short common words work best for spelling and letters.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _numbers(folder: Path, parameters: int) -> str:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    rows = {
        "parameters": f"{parameters:,}",
        "layers": config["num_hidden_layers"],
        "hidden size": config["hidden_size"],
        "attention heads": config["num_attention_heads"],
        "intermediate size": config["intermediate_size"],
        "vocabulary": f"{config['vocab_size']:,} (byte-level BPE, digits one by one)",
        "context": f"{config['max_position_embeddings']:,} tokens",
        "embeddings": "untied",
        "weights": f"bfloat16 safetensors, {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines]) + "\n"


def write_card(folder: Path, plan: Plan, trained: Trained, scored: list[dict[str, Any]]) -> None:
    """Writes README.md beside the model."""
    table = by_skill(scored)
    lines = []
    for skill in TESTED:
        rows = [row for row in scored if row["skill"] == skill.name]
        first = next((row for row in rows if row["exact"]), rows[0])
        question, answer = (_cell(message["content"]) for message in first["messages"])
        cell = table[skill.name]
        cells = (skill.name, cell["rows"], f"{cell['exact']:.1%}", skill.about, question, answer)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines.append(f"| **all** | {table['all']['rows']} | **{table['all']['exact']:.1%}** | | | |")
    text = _HEAD + _numbers(folder, trained.parameters)
    text += _RECIPE.format(
        seed=plan.seed, steps=plan.steps, tokens=trained.tokens, minutes=trained.seconds / 60,
        precision=trained.precision, user_weight=USER_WEIGHT, broad=BROAD_CONVERSATIONS, rows=table["all"]["rows"],
    )  # fmt: skip
    text += "\n".join(lines) + "\n" + _TAIL.format(context=CONTEXT, block=BLOCK)
    (folder / "README.md").write_text(text, "utf-8")
