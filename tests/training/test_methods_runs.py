"""Every method, optimizer and loss in a run: it takes real steps, and a resumed run ends where an unbroken one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.config import PRESETS, to_yaml
from phi3tune.engines.models import resolve
from phi3tune.events import Metrics
from phi3tune.export.merge import merge
from phi3tune.paths import file_hash
from phi3tune.training import heldout, trainer
from phi3tune.training.scoring import score
from tests.training.runs import NewRun, Run

pytestmark = pytest.mark.slow

# Each with the class of the optimizer that it must have got.
OPTIMIZERS = {
    "adamw_torch": "AdamW", "adamw_8bit": "AdamW", "adamw_bnb_8bit": "AdamW", "adafactor": "Adafactor",
    "lion_32bit": "Lion", "lion_8bit": "Lion", "sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop",
    "rmsprop_bnb": "RMSprop", "rmsprop_bnb_8bit": "RMSprop", "rmsprop_bnb_32bit": "RMSprop", "ademamix": "AdEMAMix",
    "ademamix_8bit": "AdEMAMix",
}  # fmt: skip


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[trainer.PhiTrainer]:
    """The trainers that runs make."""
    made: list[trainer.PhiTrainer] = []
    build = trainer.build

    def kept(*args: Any, **options: Any) -> trainer.PhiTrainer:
        made.append(build(*args, **options))
        return made[-1]

    monkeypatch.setattr(trainer, "build", kept)
    return made


def short(new_run: NewRun, **settings: Any) -> Run:
    """A run of one step at its full learning rate, measured once."""
    usual = {"max_steps": 1, "eval_steps": 1, "sample_count": 0, "lora_dropout": 0.0, "warmup_share": 0.0}
    run = new_run(**{**usual, **settings})
    run.go()
    return run


def result_hash(run: Run) -> str:
    folder = run.folder / ("adapter" if run.config.adapter else "merged")
    return file_hash(next(folder.glob("*model.safetensors")))


def losses(run: Run) -> list[float]:
    return [m.values["loss"] for reporter in run.reporters for m in reporter.of(Metrics) if "loss" in m.values]


@pytest.fixture(scope="module")
def plain(new_run: NewRun) -> Run:
    return short(new_run)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_a_step_of_its_own(
    new_run: NewRun, plain: Run, built: list[trainer.PhiTrainer], name: str
) -> None:
    run = short(new_run, optimizer=name, adam_epsilon=1e-6)
    optimizer: Any = built[0].optimizer
    inner = optimizer.optimizer
    assert type(inner).__name__ == OPTIMIZERS[name]
    assert type(inner).__module__.startswith("bitsandbytes") == (
        name not in ("adamw_torch", "sgd", "adagrad", "rmsprop", "adafactor")
    )
    if "8bit" in name:
        assert inner.args.optim_bits == 8
    assert losses(run) == losses(plain)
    assert run.result["eval_loss"] != plain.result["eval_loss"]


@pytest.mark.parametrize("method", [*PRESETS, "full"])
def test_every_method_takes_a_step(new_run: NewRun, plain: Run, method: str) -> None:
    settings = {**PRESETS.get(method, {"method": "full"}), "target_modules": ["qkv_proj", "o_proj"]}
    if method in ("full", "last_layers"):
        settings |= {"target_modules": ["norms", "lm_head"], "last_layers": None}
    run = short(new_run, **settings)
    assert run.result["status"] == "completed"
    assert run.result["eval_loss"] < losses(plain)[0]
    assert json.loads((run.folder / "model.json").read_text())["base_bits"] == run.config.base_bits


@pytest.mark.parametrize(
    "settings",
    [{"loss": "dft"}, {"label_smoothing": 0.2}, {"neftune_alpha": 20.0}],
    ids=["dft", "label smoothing", "neftune"],
)
def test_losses_and_noise_change_what_is_trained_on(new_run: NewRun, plain: Run, settings: dict[str, Any]) -> None:
    run = short(new_run, **settings)
    assert abs(losses(run)[0] - losses(plain)[0]) > 1e-4
    assert run.result["eval_loss"] != plain.result["eval_loss"]


def test_gradients_are_measured_where_they_are_not_cut(new_run: NewRun, plain: Run) -> None:
    run = short(new_run, max_grad_norm=0.0, optimizer="sgd")
    cut = short(new_run, max_grad_norm=0.1, optimizer="sgd")
    norms = [each.reporter.of(Metrics)[0].values["grad_norm"] for each in (plain, run, cut)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6) == pytest.approx(norms[2], rel=1e-6)
    assert norms[1] > 0.1
    assert run.result["eval_loss"] < cut.result["eval_loss"]


@pytest.mark.parametrize(
    "settings",
    [
        {"init": "pissa"},
        {"use_dora": True, "loraplus_ratio": 4.0},
        {"base_bits": "4", "optimizer": "adamw_8bit"},
        {"method": "full", "last_layers": 1, "neftune_alpha": 5.0, "lora_dropout": 0.0, "learning_rate": 1e-3},
    ],
    ids=["pissa", "dora and loraplus", "qlora", "last layer"],
)
def test_a_resumed_run_ends_where_an_unbroken_one_does(new_run: NewRun, settings: dict[str, Any]) -> None:
    whole, broken = (new_run(**{"max_steps": 4, "eval_steps": 4, "sample_count": 0, **settings}) for _ in range(2))
    whole.go()
    broken.go(stop_when=lambda event: isinstance(event, Metrics) and event.step == 1)
    assert broken.result["steps"] == 2
    broken.go(resume=True)
    assert broken.result["train_loss"] == whole.result["train_loss"]
    assert broken.result["eval_loss"] == whole.result["eval_loss"]
    assert result_hash(broken) == result_hash(whole)


@pytest.mark.parametrize("settings", [{"init": "pissa"}, {"use_dora": True}], ids=["pissa", "dora"])
def test_merged_weights_are_the_trained_model(
    new_run: NewRun, tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    run = short(new_run, max_steps=2, **settings)
    listed(run)
    checkpoint = resolve("lamps-1/checkpoint-2", run.workspace).adapter
    assert checkpoint is not None
    for number, adapter in enumerate((run.folder / "adapter", checkpoint)):
        merge(tiny_model, adapter, tmp_path / str(number))
        model = Phi3ForCausalLM.from_pretrained(tmp_path / str(number), dtype=torch.float32).eval()
        assert held_out_loss(run, model, tiny_model) == pytest.approx(run.result["eval_loss"], rel=1e-5)


def listed(run: Run) -> None:
    """Write what submitting a run writes, so that it is found by its name."""
    (run.folder / "run.yaml").write_text(to_yaml(run.config))


def held_out_loss(run: Run, model: Any, base: Path) -> float:
    saved = json.loads((run.folder / "dataset.json").read_text())
    rows = data.load(run.config, run.workspace, saved=saved).parts["validation"]
    loss = trained = 0.0
    for example in data.tokenise(rows, Renderer.load(base), run.config.max_length):
        batch = {"input_ids": torch.tensor([example.input_ids]), "labels": torch.tensor([example.labels])}
        with torch.no_grad():
            found = score(model, batch)
        loss, trained = loss + found.loss.item(), trained + found.trained
    return loss / trained


def test_a_run_on_a_run_makes_one_adapter_of_the_first_base(new_run: NewRun, tiny_model: Path) -> None:
    first = short(new_run, init="pissa", max_steps=2)
    listed(first)
    second = Run(
        first.config.model_copy(update={"model": "lamps-1", "init": "default", "lora_rank": 16}),  # as by default
        first.workspace,
        first.workspace.runs / "lamps-2",
        {},
        [],
    )
    second.folder.mkdir()
    listed(second)
    second.go()
    assert losses(second)[0] < losses(first)[0]
    record = json.loads((second.folder / "model.json").read_text())
    assert (record["model"], record["base"]) == ("lamps-1", str(tiny_model))
    assert "adapter/adapter_model.safetensors" in record["files"]
    found = resolve("lamps-2", second.workspace)
    assert (found.base, found.origin) == (tiny_model, str(tiny_model))
    adapter = json.loads((second.folder / "adapter" / "adapter_config.json").read_text())
    assert adapter["r"] == 2 * first.config.lora_rank
    assert adapter["base_model_name_or_path"] == str(tiny_model)


def test_the_best_weights_are_the_result(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([3.0, 1.0, 2.0, 2.5, 2.6])
    monkeypatch.setattr(heldout.HeldOut, "loss", lambda *_: {"eval_loss": next(measured)})
    run = short(new_run, max_steps=5, save_steps=1, keep_checkpoints=1, keep_best=True)
    best, last = (
        load_file(run.folder / "checkpoints" / f"checkpoint-{step}" / "adapter_model.safetensors") for step in (2, 5)
    )
    result = load_file(run.folder / "adapter" / "adapter_model.safetensors")
    assert (run.result["best_step"], run.result["eval_loss"], run.result["steps"]) == (2, 1.0, 5)
    assert all(torch.equal(result[name], best[name]) for name in result)
    assert not all(torch.equal(result[name], last[name]) for name in result)
