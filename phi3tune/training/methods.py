"""What of a model is trained: adapters of every kind, quantised bases under them, or some of the weights.

PiSSA and OLoRA take their first adapter B0 A0 out of the base weights. Their adapters are kept as plain LoRA on the
untouched base, of twice the rank, as peft's `subtract_mutated_init` does: B A - B0 A0 = [B | -B0] [A ; A0]. So they
are merged, exported and attached like any other, and what training needs to go on is in their halves.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig, PreTrainedModel, set_seed

from phi3tune.config import TARGET_MODULES, TrainConfig
from phi3tune.engines.folders import LABELS
from phi3tune.engines.hub_models import HubModel
from phi3tune.engines.models import ModelRef
from phi3tune.paths import write_json
from phi3tune.training.tasks import Task

# PiSSA by a randomised SVD, of 16 iterations: as good as the exact one (Meng et al. 2024, arXiv 2404.02948, section
# 4.2), which takes minutes for each of Phi-3-mini's matrices on a CPU.
_INITS: dict[str, bool | str] = {"default": True, "gaussian": "gaussian", "pissa": "pissa_niter_16", "olora": "olora"}
ADAPTER_WEIGHTS = "adapter_model.safetensors"

State = dict[str, torch.Tensor]


def prepare(
    config: TrainConfig, task: Task, start: ModelRef, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel | PeftModel:
    """The model that `start` names, ready to train by the config's method; `dtype` is what it computes in.

    Weights that are trained are in fp32, under autocast where `dtype` is another one: 16 bits are too coarse to add
    small steps to. The same config gives the same matrices.
    """
    quantised = config.base_bits != "as_stored"
    set_seed(config.seed)
    model = task.load(
        start.base,
        dtype=dtype,
        attn_implementation="sdpa",
        use_safetensors=True,
        **({"quantization_config": _quantisation(config, dtype), "device_map": {"": device}} if quantised else {}),
    )
    if not config.adapter:
        choose_weights(model, config)
        return model
    if start.adapter is not None:
        lora = LoraConfig.from_pretrained(start.adapter)
        lora.lora_dropout = config.lora_dropout
        model = PeftModel.from_pretrained(model, start.adapter, is_trainable=True, config=lora)
    else:
        model = get_peft_model(model, _lora(config, task, model.config.num_hidden_layers))
    base = start.origin or start.ref
    hub = HubModel.parse(base)
    model.peft_config["default"].base_model_name_or_path = base if hub is None else hub.repo
    model.peft_config["default"].revision = None if hub is None else hub.revision
    return model


def choose_weights(model: PreTrainedModel, config: TrainConfig) -> None:
    """Freeze what full training leaves alone, by `target_modules` and `last_layers`, and put the rest in fp32.

    The default modules mean every weight; with `last_layers`, every weight of those layers. Embedding, head and last
    norm lie outside the layers and are trained when they are named. A classifier's head is always trained.
    """
    every = set(config.target_modules) == set(TARGET_MODULES)
    layers = model.config.num_hidden_layers
    first = layers - (config.last_layers or layers)
    if not every or first:
        model.requires_grad_(False)
        wanted = {*config.target_modules, "score"}
        for name, module in model.named_modules():
            _, inside, rest = name.partition("layers.")
            last = name.rpartition(".")[2]
            chosen = last in wanted or ("norms" in wanted and last.endswith("norm"))
            if inside:
                chosen = int(rest.partition(".")[0]) >= first and (every or chosen)
            if chosen:
                module.requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _quantisation(config: TrainConfig, dtype: torch.dtype) -> BitsAndBytesConfig:
    """8 bit is LLM.int8 (arXiv 2208.07339); 4 bit is QLoRA's doubly quantised NF4 (arXiv 2305.14314)."""
    if config.base_bits == "8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _lora(config: TrainConfig, task: Task, layers: int) -> LoraConfig:
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        init_lora_weights=_INITS[config.init],
        target_modules=list(config.target_modules),
        layers_to_transform=None if config.last_layers is None else list(range(layers - config.last_layers, layers)),
        task_type=task.adapter_type,
    )


class Adapter:
    """The trained adapter of a model, kept as plain LoRA whatever it began as."""

    def __init__(self, model: PeftModel, labels: tuple[str, ...] | None) -> None:
        self._model = model
        self._labels = labels
        self._lora: LoraConfig = model.peft_config["default"]
        taken_out = str(self._lora.init_lora_weights).startswith(("pissa", "olora"))
        self._first = {name: tensor.clone() for name, tensor in self._state().items()} if taken_out else None

    def save(self, folder: Path, whole: State | None = None) -> None:
        """Matrices and settings that fit the untouched base, and a classifier's labels.

        `whole` holds the model's tensors where its own are divided over processes.
        """
        state, lora = self._state(whole), copy.copy(self._lora)
        lora.inference_mode = True
        lora.target_modules = sorted(lora.target_modules or [])  # peft would write a set in any order
        if self._first is not None:
            state = {name: _joined(name, tensor, self._first[name]) for name, tensor in state.items()}
            lora.r, lora.init_lora_weights = 2 * lora.r, True
            lora.lora_alpha *= math.sqrt(2) if lora.use_rslora else 2
        save_file(
            {name: tensor.contiguous() for name, tensor in state.items()}, folder / ADAPTER_WEIGHTS, {"format": "pt"}
        )
        lora.save_pretrained(folder)
        if self._labels is not None:
            write_json(folder / LABELS, {"labels": list(self._labels)})

    def load(self, folder: Path) -> None:
        """Put back what `save` wrote, to the bit."""
        state = load_file(folder / ADAPTER_WEIGHTS)
        if self._first is not None:
            state = self._split(state)
        set_peft_model_state_dict(self._model, state)

    def _state(self, whole: State | None = None) -> State:
        # "auto" would look the base up on the Hub, to see whether its vocabulary was changed.
        state: State = get_peft_model_state_dict(self._model, state_dict=whole, save_embedding_layers=False)
        return {name: tensor.detach() for name, tensor in state.items()}

    def _split(self, joined: State) -> State:
        """The adapter alone. Where a decomposition came out otherwise this time, as it may on another machine, the
        base weights are set to what the saved one left of them."""
        assert self._first is not None
        halves = {name: _halves(name, tensor.to(self._first[name].device)) for name, tensor in joined.items()}
        for name, (_, first) in halves.items():
            if ".lora_A." not in name:
                continue
            other = name.replace(".lora_A.", ".lora_B.")
            down, up = self._first[name], self._first[other]
            down_saved, up_saved = first, halves[other][1]
            if not (torch.equal(down, down_saved) and torch.equal(up, up_saved)):
                layer = self._model.get_submodule(name.partition(".lora_A.")[0])
                weight = layer.get_base_layer().weight
                change = layer.scaling["default"] * (up @ down - up_saved @ down_saved)
                weight.data = (weight.data.float() + change).to(weight.dtype)
        self._first = {name: first for name, (_, first) in halves.items()}
        return {name: trained for name, (trained, _) in halves.items()}


def _joined(name: str, trained: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    if ".lora_A." in name:
        return torch.cat([trained, first], dim=0)
    return torch.cat([trained, -first], dim=1) if ".lora_B." in name else trained


def _halves(name: str, joined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Trained and first matrix; other tensors, such as a head, were not joined."""
    if ".lora_A." in name:
        trained, first = joined.chunk(2, dim=0)
        return trained, first
    if ".lora_B." in name:
        trained, first = joined.chunk(2, dim=1)
        return trained, -first
    return joined, joined
