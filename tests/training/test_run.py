"""What a run leaves behind and says, read off runs that the tests share."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, Phi3ForCausalLM

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.config import TrainConfig
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError
from phi3tune.events import CheckpointSaved, Metrics, Notice, Phase, Progress, Sample
from phi3tune.paths import file_hash, manifest_problem
from phi3tune.training import trainer as trainer_module
from phi3tune.training.artefacts import record_base
from tests.training.runs import FORGED, STEPS, NewRun, Run

pytestmark = pytest.mark.slow


def step_losses(run: Run) -> dict[int, float]:
    """Loss by step, the latest attempt's."""
    return {
        metrics.step: metrics.values["loss"]
        for reporter in run.reporters
        for metrics in reporter.of(Metrics)
        if "loss" in metrics.values
    }


def parts(run: Run) -> dict[str, list[data.Conversation]]:
    saved = json.loads((run.folder / "dataset.json").read_text())
    return data.load(run.config, run.workspace, saved=saved).parts


def test_result_counts_rows_and_tokens(whole_run: Run, tiny_model: Path):
    result = whole_run.result
    examples = data.tokenise(parts(whole_run)["train"], Renderer.load(tiny_model), whole_run.config.max_length)
    assert (result["run"], result["status"], result["steps"]) == ("lamps-1", "completed", STEPS)
    assert result["rows"] == len(examples)
    assert result["tokens"] == sum(len(example.input_ids) for example in examples)
    assert result["trained_tokens"] == sum(example.trained for example in examples)


def test_every_step_is_told_and_the_loss_is_weighted_by_tokens(whole_run: Run):
    steps = [metrics for metrics in whole_run.reporter.of(Metrics) if "loss" in metrics.values]
    assert [metrics.step for metrics in steps] == list(range(1, STEPS + 1))
    assert {"token_accuracy", "learning_rate", "grad_norm", "tokens_per_second", "memory_bytes"} <= set(steps[0].values)
    total = sum(metrics.weight for metrics in steps)
    mean = sum(metrics.values["loss"] * metrics.weight for metrics in steps) / total
    assert whole_run.result["train_loss"] == pytest.approx(mean, rel=1e-12)
    assert steps[-1].values["loss"] < steps[0].values["loss"]
    last = whole_run.reporter.of(Progress)[-1]
    assert (last.done, last.total, last.eta_seconds) == (STEPS, STEPS, 0.0)


def test_phases_and_chosen_steps(whole_run: Run):
    reporter = whole_run.reporter
    assert [phase.name for phase in reporter.of(Phase)] == [
        "reading the data",
        "loading the model",
        "training",
        "saving",
    ]
    assert [m.step for m in reporter.of(Metrics) if "eval_loss" in m.values] == [6, 12]
    assert [sample.step for sample in reporter.of(Sample)] == [6, 6, 12, 12]
    assert [saved.step for saved in reporter.of(CheckpointSaved)] == [3, 6, 9, 12]


def test_eval_loss_is_exact_over_the_validation_tokens(whole_run: Run, tiny_model: Path):
    """Trainer's own would be a mean of batch means."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(Phi3ForCausalLM.from_pretrained(tiny_model), whole_run.folder / "adapter").eval()
    loss = trained = 0.0
    for example in data.tokenise(parts(whole_run)["validation"], Renderer.load(tiny_model), 64):
        ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        loss += model(input_ids=ids, labels=labels).loss.item() * example.trained
        trained += example.trained
    assert whole_run.result["eval_loss"] == pytest.approx(loss / trained, rel=1e-5)


def test_samples_are_greedy_answers_to_held_out_prompts(whole_run: Run, tiny_model: Path):
    from peft import PeftModel

    renderer = Renderer.load(tiny_model)
    held_out = {row.reference: row for row in parts(whole_run)["validation"]}
    model = PeftModel.from_pretrained(Phi3ForCausalLM.from_pretrained(tiny_model), whole_run.folder / "adapter").eval()
    greedy = GenerationConfig(do_sample=False, max_new_tokens=64, eos_token_id=sorted(renderer.end_ids), pad_token_id=0)
    for sample in whole_run.reporter.of(Sample)[-2:]:
        row = held_out[sample.expected]
        assert sample.prompt == row.prompt_messages[-1]["content"]
        ids = torch.tensor([renderer.prompt(row.prompt_messages)])
        answer = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
        assert sample.answer == renderer.decode(answer[0, ids.shape[1] :].tolist())


def test_only_the_adapter_is_trained_and_saved(whole_run: Run, tiny_model: Path):
    adapter = load_file(whole_run.folder / "adapter" / "adapter_model.safetensors")
    assert all(".lora_A." in name or ".lora_B." in name for name in adapter)
    assert all(adapter[name].abs().max() > 0 for name in adapter if ".lora_B." in name)
    record = json.loads((whole_run.folder / "model.json").read_text())
    assert record["files"]["model.safetensors"]["sha256"] == file_hash(tiny_model / "model.safetensors")
    assert manifest_problem(whole_run.folder / "adapter") is None
    config = json.loads((whole_run.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == record["model"]
    assert set(config["target_modules"]) == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


def test_a_checkpoint_holds_what_a_resume_needs_and_no_pickled_settings(whole_run: Run):
    folders = sorted((whole_run.folder / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["checkpoint-12", "checkpoint-9"]
    assert {path.name for path in folders[0].iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    }


def test_watching_does_not_change_the_losses(whole_run: Run, new_run: NewRun):
    run = new_run(sample_count=0, eval_steps=STEPS, save_steps=STEPS)
    run.go()
    assert step_losses(run) == step_losses(whole_run)


def test_stopped_and_resumed_equals_uninterrupted(whole_run: Run, new_run: NewRun):
    run = new_run()
    stopped = run.go(stop_when=lambda event: isinstance(event, Metrics) and event.step == 4)
    assert (stopped["status"], stopped["steps"]) == ("stopped", 5)
    assert not (run.folder / "adapter").exists()
    finished = run.go(resume=True)
    assert [event.step for event in run.reporter.events if event.type == "resumed"] == [5]
    assert (finished["status"], finished["steps"]) == ("completed", STEPS)
    assert step_losses(run) == step_losses(whole_run)
    assert finished["train_loss"] == whole_run.result["train_loss"]
    assert adapter_hash(run) == adapter_hash(whole_run)


def test_an_altered_checkpoint_is_passed_over_and_the_result_is_the_same(whole_run: Run, new_run: NewRun):
    run = new_run()
    run.go(stop_when=lambda event: isinstance(event, Metrics) and event.step == 4)
    # A pickle that was swapped must not even be opened.
    (run.folder / "checkpoints" / "checkpoint-5" / "optimizer.pt").write_bytes(b"no pickle")
    finished = run.go(resume=True)
    [notice] = [notice for notice in run.reporter.of(Notice) if notice.code == "checkpoint_unusable"]
    assert "checkpoint-5" in notice.message
    assert [event.step for event in run.reporter.events if event.type == "resumed"] == [3]
    assert finished["train_loss"] == whole_run.result["train_loss"]
    assert adapter_hash(run) == adapter_hash(whole_run)


def test_a_run_killed_while_saving_is_only_saved_again(new_run: NewRun):
    run = new_run(max_steps=9, sample_count=0)  # ends within an epoch
    first = run.go()
    adapter = adapter_hash(run)
    shutil.rmtree(run.folder / "adapter")
    again = run.go(resume=True)
    assert not run.reporter.of(Metrics)
    assert (again["steps"], again["train_loss"], again["eval_loss"]) == (9, first["train_loss"], first["eval_loss"])
    assert adapter_hash(run) == adapter


def test_resume_without_a_checkpoint_starts_over(new_run: NewRun):
    run = new_run(max_steps=2, sample_count=0)
    run.go(resume=True)
    assert [event.step for event in run.reporter.events if event.type == "resumed"] == [0]
    assert run.result["steps"] == 2


def test_packing_and_recomputing_do_not_change_the_losses(new_run: NewRun):
    ways = ({}, {"packing": False}, {"gradient_checkpointing": "on"})
    runs = [new_run(max_steps=2, lora_dropout=0.0, sample_count=0, **way) for way in ways]
    for run in runs:
        run.go()
    packed, padded, recomputed = (step_losses(run) for run in runs)
    assert padded == pytest.approx(packed, rel=1e-5)
    assert recomputed == pytest.approx(packed, rel=1e-5)


def test_forged_roles_stay_text(new_run: NewRun, tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    given = {}

    class EnoughError(Exception):
        pass

    def build(*args, **kwargs):
        given["examples"] = args[4]
        raise EnoughError

    monkeypatch.setattr(trainer_module, "build", build)
    run = new_run(validation_share=0.0)
    with pytest.raises(EnoughError):
        run.go()
    special = {32000, 32001, 32006, 32007, 32010}
    for row, example in zip(parts(run)["train"], given["examples"], strict=True):
        assert sum(token in special for token in example.input_ids) == 5, row.messages
        assert sum(token in special for token in example.labels) == 2
    assert FORGED in parts(run)["train"][0].messages[0]["content"]
    assert FORGED in Renderer.load(tiny_model).decode(given["examples"][0].input_ids)


def test_full_training_saves_whole_weights_as_the_base_stores_them(new_run: NewRun, tiny_model: Path, tmp_path: Path):
    base = tmp_path / "base"
    Phi3ForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).write_bytes((tiny_model / name).read_bytes())
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "canary.Config"}}))
    run = new_run(model=str(base), method="full", max_steps=2)
    result = run.go()
    merged = run.folder / "merged"
    before, after = load_file(base / "model.safetensors"), load_file(merged / "model.safetensors")
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert "auto_map" not in json.loads((merged / "config.json").read_text())
    assert json.loads((merged / "generation_config.json").read_text())["eos_token_id"] == [32000, 32001, 32007]
    assert Renderer.load(merged).template == Renderer.load(base).template
    assert manifest_problem(merged) is None
    assert not (run.folder / "adapter").exists()
    assert result["learning_rate"] == 0.01


def test_a_loss_that_is_no_number_ends_the_run(new_run: NewRun, tiny_model: Path, tmp_path: Path):
    base = tmp_path / "base"
    base.mkdir()
    for path in tiny_model.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"][7] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    run = new_run(model=str(base))
    with pytest.raises(UserError, match=r"loss at step 1 is nan.*lower --learning-rate"):
        run.go()


def test_no_telemetry(new_run: NewRun, monkeypatch: pytest.MonkeyPatch):
    def sent(*args, **kwargs):
        raise AssertionError("telemetry was sent")

    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", sent)
    monkeypatch.delenv("CI", raising=False)
    assert new_run(max_steps=1, sample_count=0).go()["status"] == "completed"


def test_bf16_is_refused_where_it_is_emulated(new_run: NewRun, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trainer_module, "choose_dtype", lambda device: torch.float32)
    with pytest.raises(UserError, match="--dtype bf16"):
        new_run(dtype="bf16").go()


def test_a_base_that_changed_since_the_run_began_is_refused(tmp_path: Path):
    base, run_dir = tmp_path / "base", tmp_path / "run"
    base.mkdir()
    run_dir.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"weights")
    start, config = ModelRef("base", "base", "torch", base), TrainConfig(dataset="d")
    record_base(run_dir, start, config)
    record_base(run_dir, start, config)
    (base / "model.safetensors").write_bytes(b"others!")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        record_base(run_dir, start, config)


def test_data_that_changed_since_the_run_began_is_refused(new_run: NewRun):
    run = new_run(max_steps=1, sample_count=0)
    run.go()
    with Path(run.config.dataset).open("a") as stream:
        stream.write(Path(run.config.dataset).read_text().splitlines()[3].replace("Lamp", "Torch") + "\n")
    with pytest.raises(UserError, match="has changed since this run began"):
        run.go(resume=True)


def adapter_hash(run: Run) -> str:
    return file_hash(run.folder / "adapter" / "adapter_model.safetensors")
