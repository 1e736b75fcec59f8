"""Classifiers without training: whole ones and adapters, with heads large enough that their labels differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from phi3tune.config import TARGET_MODULES, TrainConfig, to_yaml
from phi3tune.paths import Workspace, new_folder, write_json

LABELS = ("cold", "mild", "warm")


def _model(base: Path, labels: tuple[str, ...]) -> Any:
    import torch
    from transformers import Phi3ForSequenceClassification

    names = dict(enumerate(labels))
    model = Phi3ForSequenceClassification.from_pretrained(
        base, id2label=names, label2id={label: place for place, label in names.items()}, dtype=torch.float32
    )
    return model.eval()


def whole_classifier(folder: Path, base: Path, *, labels: tuple[str, ...] = LABELS, seed: int = 0) -> Path:
    """A checkpoint of a random classifier on the weights in `base`."""
    import torch

    model = _model(base, labels)
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (base / name).is_file():
            shutil.copy(base / name, folder / name)
    return folder


def classifier_adapter(folder: Path, base: Path, *, labels: tuple[str, ...] = LABELS, seed: int = 0) -> Any:
    """An adapter with a random head, as training leaves it; returns peft's own model of it."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(TARGET_MODULES), task_type="SEQ_CLS")
    model = get_peft_model(_model(base, labels), config)
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
        elif "score" in name:
            torch.nn.init.normal_(weight)
    model.save_pretrained(folder, save_embedding_layers=False)
    write_json(folder / "labels.json", {"schema": 1, "labels": list(labels)})
    return model.eval()


def labelled(path: Path, count: int) -> Path:
    """A dataset file of different questions, each answered with one of `LABELS`."""
    rows = [
        {"question": f"How warm is it at station {number}?" + " Say." * (number % 7), "answer": LABELS[number % 3]}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def classification_run(workspace: Workspace, name: str, base: Path, dataset: Path) -> Path:
    """The folder of a classification run of `base` on `dataset`, with a random adapter."""
    from phi3tune import data

    config = TrainConfig(model=str(base), dataset=str(dataset), task="classification")
    run = workspace.runs / name
    run.mkdir(parents=True)
    (run / "run.yaml").write_text(to_yaml(config))
    write_json(run / "dataset.json", data.load(config, workspace).record())
    with new_folder(run / "adapter") as folder:
        classifier_adapter(folder, base)
    return run
