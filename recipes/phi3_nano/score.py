"""Measures a phi3-nano: exact answers of free greedy generation on held-out questions."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .chat import Message

MAX_NEW_TOKENS = 64


@torch.inference_mode()
def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chats: Sequence[list[Message]], batch: int = 48
) -> list[str]:
    """The model's greedy answer to each chat, decoded without special tokens and stripped."""
    model.eval()
    order = sorted(range(len(chats)), key=lambda i: sum(len(m["content"]) for m in chats[i]))
    found = [""] * len(chats)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        prompts = tokenizer.apply_chat_template(
            [chats[i] for i in chosen], add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**prompts, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        texts = tokenizer.batch_decode(output[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, texts, strict=True):
            found[i] = text.strip()
    return found


def score_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Each row with the model's `answer` and whether it is `exact`."""
    given = answers(model, tokenizer, [row["messages"][:-1] for row in rows])
    return [
        row | {"answer": text, "exact": text == row["messages"][-1]["content"].strip()}
        for row, text in zip(rows, given, strict=True)
    ]


def by_skill(scored: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Rows and share of exact answers of each skill, and of all rows."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for row in scored:
        groups[row["skill"]].append(row["exact"])
        groups["all"].append(row["exact"])
    return {skill: {"rows": len(marks), "exact": round(sum(marks) / len(marks), 4)} for skill, marks in groups.items()}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def score_folder(folder: Path) -> list[dict[str, Any]]:
    """Scores the model in a folder on the test file beside it, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return score_rows(model, tokenizer, read_rows(folder / "skills" / "test.jsonl"))
