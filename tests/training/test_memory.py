"""The memory model against what autograd keeps, and against what it must never get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Phi3ForCausalLM

from phi3tune.config import TrainConfig, parse
from phi3tune.training.memory import Fed, Memory, Shape, estimate, largest_pass, optimizer_state, trained_parameters
from phi3tune.training.methods import choose_weights
from phi3tune.training.scoring import score

TOKENS = 96


def settings(**given: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": "rows.jsonl", "lora_rank": 4, **given})


def shape(folder: Path) -> Shape:
    return Shape.of(json.loads((folder / "config.json").read_text()))


def model(folder: Path, config: TrainConfig) -> Any:
    base = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    if not config.adapter:
        choose_weights(base, config)
        return base
    last = config.last_layers
    return get_peft_model(
        base,
        LoraConfig(
            r=config.lora_rank,
            lora_dropout=config.lora_dropout,
            use_dora=config.use_dora,
            target_modules=list(config.target_modules),
            layers_to_transform=None if last is None else list(range(2 - last, 2)),
        ),
    )


def kept(trained: Any, *, packed: bool) -> tuple[int, int]:
    """Bytes that autograd keeps of a forward pass, parameters left out, and its loss-bearing positions."""
    ids = torch.arange(TOKENS)[None] + 5
    labels = ids.clone()
    labels[:, : TOKENS // 2] = -100
    places = torch.cat([torch.arange(TOKENS // 2)] * 2) if packed else torch.arange(TOKENS)
    fed = {"position_ids": places[None]} if packed else {"attention_mask": torch.ones_like(ids)}
    parameters = {p.untyped_storage().data_ptr() for p in trained.parameters()}
    found: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage  # kept, so that no other tensor gets its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        score(trained.train(), {"input_ids": ids, "labels": labels, **fed})
    return sum(storage.nbytes() for storage in found.values()), int((labels[:, 1:] != -100).sum())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("given", [{}, {"lora_dropout": 0.1}, {"method": "full"}, {"last_layers": 1}])
def test_activations_are_what_autograd_keeps(tiny_model: Path, given: dict[str, Any], packed: bool) -> None:
    config = settings(**given)
    measured, scored = kept(model(tiny_model, config), packed=packed)
    fed = Fed(1, TOKENS, scored, masked=packed)
    told = estimate(config, shape(tiny_model), fed, number=4, accumulates=False, checkpointing=False, runtime=0)
    # Of the three tensors of `logits`, the log-softmax is kept.
    assert told.activations + told.logits / 3 == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"method": "dora"},
        {"last_layers": 1},
        {"target_modules": ["o_proj", "down_proj"]},
        {"method": "full"},
        {"method": "last_layers", "last_layers": 1},
        {"method": "full", "target_modules": ["lm_head", "norms"]},
        {"method": "full", "target_modules": ["qkv_proj", "embed_tokens"], "last_layers": 1},
    ],
)
def test_trained_parameters_are_those_of_the_model(tiny_model: Path, given: dict[str, Any]) -> None:
    config = settings(**given)
    real = sum(p.numel() for p in model(tiny_model, config).parameters() if p.requires_grad)
    assert trained_parameters(config, shape(tiny_model)) == real


def test_parameters_of_a_shape(tiny_model: Path) -> None:
    real = sum(p.numel() for p in Phi3ForCausalLM.from_pretrained(tiny_model).parameters())
    assert shape(tiny_model).parameters == real


def told(folder: Path, *, checkpointing: bool = False, runtime: int | None = 0, **given: Any) -> Memory:
    fed = Fed(1, 2000, 1500, masked=True)
    return estimate(
        settings(**given),
        shape(folder),
        fed,
        number=4,
        accumulates=False,
        checkpointing=checkpointing,
        runtime=runtime,
    )


def test_what_saves_memory_is_told_to_save_it(tiny_model: Path) -> None:
    plain = told(tiny_model)
    assert told(tiny_model, checkpointing=True).activations < plain.activations
    assert told(tiny_model, method="dora").activations > plain.activations
    assert told(tiny_model, base_bits="4").weights < told(tiny_model, base_bits="8").weights < plain.weights
    assert told(tiny_model, last_layers=1).activations < plain.activations
    full = told(tiny_model, method="full")
    assert full.gradients > plain.gradients
    assert told(tiny_model, method="full", optimizer="sgd").optimizer < full.optimizer
    assert told(tiny_model, runtime=None).runtime > 0  # the context of a GPU


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("adamw_torch", torch.optim.AdamW), ("rmsprop", torch.optim.RMSprop), ("adagrad", torch.optim.Adagrad)],
)
def test_optimizer_state_is_that_of_the_optimizer(tiny_model: Path, name: Any, optimizer: Any) -> None:
    config = settings(optimizer=name)
    trained = [p for p in model(tiny_model, config).parameters() if p.requires_grad]
    steps = optimizer(trained)
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    steps.step()
    states = [value for state in steps.state.values() for value in state.values() if torch.is_tensor(value)]
    real = sum(value.nbytes for value in states if value.ndim)
    assert optimizer_state(config, shape(tiny_model)) == real


def test_the_largest_pass_is_one_that_can_be_drawn() -> None:
    rows = [(10 * number, number) for number in range(1, 21)]
    fed = largest_pass(rows, micro=2, packed=True, passes=50, seed=1)
    assert (fed.rows, fed.tokens, fed.scored, fed.masked) == (1, 390, 39, True)
    assert largest_pass(rows, micro=2, packed=False, passes=50, seed=1).tokens == 400
    assert largest_pass(rows, micro=20, packed=True, passes=1, seed=1).tokens == sum(tokens for tokens, _ in rows)
