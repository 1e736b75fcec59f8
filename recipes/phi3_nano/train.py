"""Trains phi3-nano from scratch: a few million parameters, a fixed number of steps, one seed."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, GenerationConfig, Phi3Config, Phi3ForCausalLM

from .batches import Batch, batches
from .corpus import test_rows, training_stream
from .muon import Muon
from .score import by_skill, score_rows
from .tokenizer import BOS, CONTEXT, PAD, STOPS


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train; `rows` blocks a step, learning rates for matrices and for
    the rest, which fall to zero over the last `cooldown` share of the steps."""

    seed: int = 0
    steps: int = 3200
    cooldown: float = 0.6
    rows: int = 8
    matrix_lr: float = 3e-3
    other_lr: float = 3e-3
    warmup: int = 60
    weight_decay: float = 0.05
    eval_every: int = 800


@dataclass(frozen=True)
class Trained:
    """What a run did: parameters, tokens seen, seconds, and the precision of its matrix products."""

    parameters: int
    tokens: int
    seconds: float
    precision: str


def config(tokenizer: Tokenizer) -> Phi3Config:
    """The architecture of phi3-nano: Phi-3's, made small."""
    stop = tokenizer.token_to_id(PAD)
    return Phi3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        original_max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=stop,
        pad_token_id=stop,
    )


def fastest_precision() -> torch.dtype:
    """bfloat16 where this processor multiplies matrices at least as fast in it as in float32 (many are far slower)."""

    def seconds(dtype: torch.dtype) -> float:
        a, b = torch.randn(256, 256, dtype=dtype), torch.randn(256, 256, dtype=dtype)
        a @ b
        start = time.perf_counter()
        for _ in range(8):
            a @ b
        return time.perf_counter() - start

    return torch.bfloat16 if seconds(torch.bfloat16) < seconds(torch.float32) else torch.float32


def _loss(model: Phi3ForCausalLM, batch: Batch, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        hidden = model.model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        logits = model.lm_head(hidden)
    losses = cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten(), reduction="none")
    weights = batch.weights.flatten()
    return (losses * weights).sum() / weights.sum()


def _optimizers(model: Phi3ForCausalLM, plan: Plan, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers; AdamW for embeddings, head and norms."""
    inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(inner, lr=plan.matrix_lr, weight_decay=plan.weight_decay, dtype=dtype),
        torch.optim.AdamW(outer, lr=plan.other_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _share(step: int, plan: Plan) -> float:
    """The learning rate as a share of its peak: linear warmup, level, then linear to zero."""
    return min(1.0, (step + 1) / plan.warmup, (plan.steps - step) / (plan.cooldown * plan.steps))


def new_model(tokenizer: Tokenizer, seed: int) -> Phi3ForCausalLM:
    """A freshly initialised model in float32."""
    torch.manual_seed(seed)
    model = Phi3ForCausalLM(config(tokenizer))
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=[tokenizer.token_to_id(text) for text in STOPS],
        pad_token_id=model.config.pad_token_id,
    )
    return model


def save_model(model: Phi3ForCausalLM, folder: Path) -> None:
    """Writes config, generation config and bfloat16 weights; the model in memory stays as it is."""
    half = Phi3ForCausalLM(model.config).to(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    half.generation_config = model.generation_config
    half.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def train(tokenizer: Tokenizer, folder: Path, plan: Plan) -> Trained:
    """Trains a model and leaves it in `folder`, which must already hold the tokenizer; logs to standard output.

    Every `eval_every` steps the model as it stands is scored on the test rows and saved, so that an interrupted
    run still leaves one.
    """
    dtype = fastest_precision()
    model = new_model(tokenizer, plan.seed)
    optimizers = _optimizers(model, plan, dtype)
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    stream: Iterator[Batch] = batches(training_stream(plan.seed), tokenizer, plan.rows)
    step_loss = torch.compile(_loss, dynamic=False) if shutil.which("g++") else _loss
    rows = test_rows(plan.seed)
    tokens, running, started = 0, 0.0, time.perf_counter()
    for step in range(plan.steps):
        batch = next(stream)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * _share(step, plan)
        loss = step_loss(model, batch, dtype)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += batch.tokens
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 25 == 0:
            spent = time.perf_counter() - started
            speed = {"seconds": round(spent), "tokens_per_second": round(tokens / spent)}
            print(json.dumps({"step": step + 1, "loss": round(running, 4)} | speed), flush=True)
        if (step + 1) % plan.eval_every == 0 or step + 1 == plan.steps:
            save_model(model, folder)
            table = by_skill(score_rows(model, AutoTokenizer.from_pretrained(folder), rows))
            weak = {skill: cell["exact"] for skill, cell in table.items() if cell["exact"] < 0.95}
            print(json.dumps({"step": step + 1, "exact": table["all"]["exact"], "below 0.95": weak}), flush=True)
            model.train()
    parameters = sum(weight.numel() for weight in model.parameters())
    return Trained(parameters, tokens, time.perf_counter() - started, str(dtype).removeprefix("torch."))
