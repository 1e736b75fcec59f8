"""Each method prepares what it claims to: read off models that have not been trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import Phi3ForCausalLM

from phi3tune.chat import Example
from phi3tune.config import TARGET_MODULES, Scheduler, TrainConfig, parse
from phi3tune.engines.models import ModelRef, resolve, starting_point
from phi3tune.paths import Workspace
from phi3tune.training import methods
from phi3tune.training.settings import check
from phi3tune.training.tasks import ChatTask
from phi3tune.training.trainer import PhiTrainer, build
from tests.fake_runs import chats, finished_run

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def start(tiny_model: Path) -> ModelRef:
    return ModelRef("tiny", "tiny", "torch", tiny_model)


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Phi3ForCausalLM:
    return Phi3ForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


def config_of(**settings: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": "d", "lora_rank": 4, "lora_alpha": 8.0, **settings})


def prepared(start: ModelRef, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    config = config_of(**settings)
    return methods.prepare(config, ChatTask(config), start, dtype, CPU)


def trainer_of(start: ModelRef, folder: Path, **settings: Any) -> PhiTrainer:
    config = config_of(**settings)
    rows = [Example([1, 2, 3], [-100, 2, 3], False)]
    return build(
        config, folder, ChatTask(config), start, rows, rate=0.01, micro=1, checkpointing=False, dtype=torch.float32,
        device=CPU,
    )  # fmt: skip


def layers(model: Any) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def trained(model: Any) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


@pytest.mark.parametrize(("settings", "scale"), [({}, 8 / 4), ({"method": "rslora"}, 8 / math.sqrt(4))])
def test_lora_and_rslora_scale_their_matrices(start: ModelRef, settings: dict[str, Any], scale: float) -> None:
    model = prepared(start, **settings)
    assert {layer.scaling["default"] for layer in layers(model).values()} == {scale}
    assert {name.rpartition(".")[2] for name in layers(model)} == set(TARGET_MODULES)
    assert all(".lora_A." in name or ".lora_B." in name for name in trained(model))


def test_dora_trains_the_length_of_every_row(start: ModelRef, base: Phi3ForCausalLM) -> None:
    model = prepared(start, method="dora")
    for layer in layers(model).values():
        magnitude = layer.lora_magnitude_vector["default"].weight
        assert magnitude.requires_grad
        torch.testing.assert_close(magnitude, layer.get_base_layer().weight.norm(dim=1))
    torch.testing.assert_close(logits(model), logits(base), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_pissa_and_olora_begin_with_directions_of_the_weights(
    start: ModelRef, base: Phi3ForCausalLM, init: str
) -> None:
    model = prepared(start, init=init)
    weights = dict(base.named_parameters())
    for name, layer in layers(model).items():
        left, whole = layer.get_base_layer().weight, weights[name.removeprefix("base_model.model.") + ".weight"]
        taken = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        torch.testing.assert_close(left + taken, whole, rtol=1e-4, atol=1e-5)
        if init == "pissa":  # what is left is as small as any matrix of that rank can make it
            rest = torch.linalg.svdvals(whole.detach())[4:].norm()
            assert left.norm().item() == pytest.approx(rest.item(), rel=0.02)
    torch.testing.assert_close(logits(model), logits(base), rtol=1e-4, atol=1e-4)


def test_a_gaussian_beginning_is_another_one(start: ModelRef) -> None:
    plain, gaussian = (next(iter(layers(prepared(start, init=init)).values())) for init in ("default", "gaussian"))
    assert not torch.equal(plain.lora_A["default"].weight, gaussian.lora_A["default"].weight)
    assert gaussian.lora_A["default"].weight.std().item() == pytest.approx(1 / 4, rel=0.2)
    assert gaussian.lora_B["default"].weight.abs().max() == 0


@pytest.mark.parametrize(("method", "kind"), [("qlora", "Linear4bit"), ("qlora8", "Linear8bitLt")])
def test_qlora_quantises_the_base_and_not_the_adapter(start: ModelRef, method: str, kind: str, tmp_path: Path) -> None:
    trainer = trainer_of(start, tmp_path, method=method)
    for layer in layers(trainer.model).values():
        assert type(layer.get_base_layer()).__name__ == kind
    assert type(trainer.model.get_base_model().lm_head) is torch.nn.Linear
    assert {weight.dtype for weight in trainer.model.parameters() if weight.requires_grad} == {torch.float32}
    if method == "qlora":
        assert next(iter(layers(trainer.model).values())).get_base_layer().weight.quant_state.quant_type == "nf4"


def test_an_adapter_of_the_last_layers_and_chosen_modules(start: ModelRef) -> None:
    model = prepared(start, last_layers=1, target_modules=["o_proj", "down_proj"])
    found = {name.removeprefix("base_model.model.model.") for name in layers(model)}
    assert found == {"layers.1.self_attn.o_proj", "layers.1.mlp.down_proj"}


LAYER = {
    "self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj", "input_layernorm",
    "post_attention_layernorm",
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"method": "last_layers", "last_layers": 1}, {f"model.layers.1.{name}" for name in LAYER}),
        (
            {"method": "last_layers", "last_layers": 1, "target_modules": "o_proj,norms,lm_head"},
            {"model.layers.1.self_attn.o_proj", "model.norm", "lm_head"}
            | {f"model.layers.1.{name}" for name in LAYER if name.endswith("norm")},
        ),
        ({"method": "full", "target_modules": "embed_tokens"}, {"model.embed_tokens"}),
        ({"method": "full", "target_modules": "o_proj"}, {f"model.layers.{n}.self_attn.o_proj" for n in (0, 1)}),
    ],
    ids=["last layer", "last layer, chosen", "embeddings", "one module"],
)
def test_full_training_freezes_the_rest(start: ModelRef, settings: dict[str, Any], expected: set[str]) -> None:
    model = prepared(start, torch.bfloat16, **settings)
    assert {name.removesuffix(".weight") for name in trained(model)} == expected
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} == {torch.bfloat16}


def test_full_training_by_default_trains_every_weight(start: ModelRef, base: Phi3ForCausalLM) -> None:
    assert trained(prepared(start, method="full")) == {name for name, _ in base.named_parameters()}


@pytest.mark.parametrize("settings", [{"init": "pissa"}, {"init": "olora", "use_rslora": True}], ids=["pissa", "olora"])
def test_a_converted_adapter_is_plain_and_comes_back_to_the_bit(
    start: ModelRef, tmp_path: Path, settings: dict[str, Any]
) -> None:
    from peft import PeftModel

    model = prepared(start, **settings)
    adapter = methods.Adapter(model, None)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_" in name:
                weight += 0.1 * torch.randn_like(weight)
    adapter.save(tmp_path)
    after = logits(model)
    saved = {name: weight.clone() for name, weight in model.named_parameters() if ".lora_" in name}

    plain = PeftModel.from_pretrained(Phi3ForCausalLM.from_pretrained(start.base, dtype=torch.float32), tmp_path)
    assert plain.peft_config["default"].r == 2 * 4
    assert plain.peft_config["default"].init_lora_weights is True
    torch.testing.assert_close(logits(plain), after, rtol=1e-4, atol=1e-4)

    again = prepared(start, **settings)
    methods.Adapter(again, None).load(tmp_path)
    assert all(torch.equal(weight, saved[name]) for name, weight in again.named_parameters() if name in saved)
    assert torch.equal(logits(again), after)


def test_a_decomposition_that_came_out_otherwise_is_put_right(start: ModelRef, tmp_path: Path) -> None:
    """As on another machine: here, a randomised one of another seed."""
    first, second = (prepared(start, method="pissa", seed=seed) for seed in (1, 2))
    adapters = [methods.Adapter(model, None) for model in (first, second)]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    adapters[0].save(folders[0])
    adapters[1].load(folders[0])
    torch.testing.assert_close(logits(second), logits(first), rtol=1e-4, atol=1e-4)
    adapters[1].save(folders[1])
    before, after = (load_file(folder / methods.ADAPTER_WEIGHTS) for folder in folders)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_goes_on_from_the_adapter_of_another(start: ModelRef, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    rows = chats(tmp_path / "chats.jsonl", 20)
    finished_run(workspace, "first", start.base, rows, use_rslora=True, lora_alpha=12)
    ref = starting_point(resolve("first", workspace), workspace, adapter=True)
    config = check(TrainConfig(dataset=str(rows), model="first", lora_dropout=0.5), ref)
    model = methods.prepare(config, ChatTask(config), ref, torch.float32, CPU)
    assert (config.lora_rank, config.lora_alpha, config.use_rslora) == (4, 12.0, True)
    tensors = load_file(workspace.runs / "first" / "adapter" / methods.ADAPTER_WEIGHTS)
    own = methods.Adapter(model, None)
    own.save(tmp_path)
    saved = load_file(tmp_path / methods.ADAPTER_WEIGHTS)
    assert tensors.keys() == saved.keys()
    assert all(torch.equal(tensors[name], saved[name]) for name in tensors)
    assert len(trained(model)) == len(tensors)
    assert next(iter(layers(model).values())).lora_dropout["default"].p == 0.5
    assert model.peft_config["default"].base_model_name_or_path == str(start.base)


def test_loraplus_has_two_learning_rates(start: ModelRef, tmp_path: Path) -> None:
    trainer = trainer_of(start, tmp_path, method="loraplus", weight_decay=0.1)
    names = {id(weight): name for name, weight in trainer.model.named_parameters()}
    rates = {
        names[id(weight)].rpartition(".lora_")[2][0]: group["lr"]
        for group in trainer.create_optimizer().param_groups
        for weight in group["params"]
    }
    assert rates == {"A": 0.01, "B": 0.16}


def test_every_schedule_has_a_shape_of_its_own(start: ModelRef, tmp_path: Path) -> None:
    steps, curves = 40, {}
    for name in get_args(Scheduler):
        trainer = trainer_of(start, tmp_path / name, scheduler=name, warmup_share=0.1)
        optimizer = trainer.create_optimizer()
        schedule = trainer.create_scheduler(steps)
        rates = []
        for _ in range(steps):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        curves[name] = rates
        assert rates[0] == 0
        assert max(rates) == pytest.approx(0.01)
    assert len({tuple(rates) for rates in curves.values()}) == len(curves)
    assert set(curves["warmup_stable_decay"][4:36]) == {0.01}
    assert curves["warmup_stable_decay"][39] < 0.003
    assert 0.001 <= curves["cosine_with_min_lr"][39] < 0.0012
    assert curves["cosine_with_restarts"][16] == pytest.approx(0.01)
