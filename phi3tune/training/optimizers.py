"""Optimizers and learning-rate schedules: what each needs, and what the trainer is told of it. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from phi3tune.config import TrainConfig


@dataclass(frozen=True)
class Need:
    """What an optimizer needs beside torch, and what to use without it.

    module   to import; empty for none
    install  how to get it
    gpu      whether it works on a GPU only
    """

    module: str = ""
    install: str = ""
    gpu: bool = False
    instead: str = "adamw_torch_fused"


def _from_pip(module: str, package: str, **others: Any) -> Need:
    return Need(module, f"pip install {package}", **others)


_BNB = _from_pip("bitsandbytes", "bitsandbytes")
_GALORE = _from_pip("galore_torch", "galore-torch")
_SCHEDULE_FREE = _from_pip("schedulefree", "schedulefree")
# Paged states live in memory that the GPU and the CPU share: on a CPU, bitsandbytes leaves the paging away.
_PAGED = {
    "paged_adamw_32bit": "adamw_torch_fused", "paged_adamw_8bit": "adamw_8bit", "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit", "paged_ademamix_32bit": "ademamix", "paged_ademamix_8bit": "ademamix_8bit",
}  # fmt: skip
NEEDS: dict[str, Need] = {
    **dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit", "lion_32bit", "lion_8bit", "ademamix", "ademamix_8bit"), _BNB),
    **dict.fromkeys(("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"), _BNB),
    **{name: _from_pip("bitsandbytes", "bitsandbytes", gpu=True, instead=instead) for name, instead in _PAGED.items()},
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), _from_pip("torchao", "torchao", instead="adamw_8bit")),
    "adamw_anyprecision": Need("torchdistx", "see https://github.com/pytorch/torchdistx"),
    "galore_adamw": _GALORE,
    "galore_adafactor": _GALORE,
    "galore_adamw_8bit": _from_pip("galore_torch", "galore-torch", gpu=True, instead="galore_adamw"),
    "apollo_adamw": _from_pip("apollo_torch", "apollo-torch"),
    "grokadamw": _from_pip("grokadamw", "grokadamw"),
    **dict.fromkeys(("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), _SCHEDULE_FREE),
    "stable_adamw": _from_pip("optimi", "torch-optimi"),
}
# What keeps an optimizer out of every run here, and what to use in its place.
REFUSED: dict[str, str] = {
    "adamw_torch_xla": "it needs a TPU, which is not trained on here; use --optimizer adamw_torch_fused",
    "adamw_torch_npu_fused": "it needs an Ascend NPU, which is not trained on here; use --optimizer adamw_torch_fused",
    **{
        f"{name}_layerwise": "it keeps no state in checkpoints, so that a run could not be resumed; "
        f"use --optimizer {name}"
        for name in ("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "apollo_adamw")
    },
    **{
        name: "it moves weights in the middle of the backward pass, where gradients can neither be measured nor "
        f"gathered from several passes; use --optimizer {instead}"
        for name, instead in (("lomo", "sgd"), ("adalomo", "adafactor"))
    },
}
# Arguments of the schedules that have some. Polynomial with transformers' power of 1 would be linear, and one cycle of
# cosine_with_restarts would be cosine.
_SCHEDULES: dict[str, dict[str, Any]] = {
    "polynomial": {"power": 2.0, "lr_end": 0.0},
    "cosine_with_restarts": {"num_cycles": 3},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
}
DECAY_SHARE = 0.1  # of the steps, at the end of warmup_stable_decay (MiniCPM, Hu et al. 2024, arXiv 2404.06395)


def problems(config: TrainConfig, *, gpu: bool) -> list[str]:
    """Why the run's optimizer cannot be used here, each with a way out; empty when it can. `gpu`: there is one."""
    name, found = config.optimizer, []
    if name in REFUSED:
        return [f"--optimizer {name} is not accepted: {REFUSED[name]}"]
    need = NEEDS.get(name, Need())
    if need.module and find_spec(need.module) is None:
        found.append(
            f"--optimizer {name} needs the package {need.module} ({need.install}); or use --optimizer {need.instead}"
        )
    if need.gpu and not gpu:
        found.append(f"--optimizer {name} needs a GPU; use --optimizer {need.instead}")
    if name.startswith("schedule_free") and config.scheduler != "constant":
        found.append(f"--optimizer {name} takes the place of a schedule; use --scheduler constant")
    return found


def arguments(config: TrainConfig, rate: float) -> dict[str, Any]:
    """What transformers' `TrainingArguments` are told of optimizer and schedule; `rate` is the peak learning rate."""
    low_rank = config.optimizer.startswith(("galore", "apollo"))
    own_warmup = config.optimizer.startswith("schedule_free")
    warm_constant = config.scheduler == "constant" and config.warmup_share > 0 and not own_warmup
    return {
        "optim": config.optimizer,
        "optim_target_modules": [f".*{name}.*" for name in config.target_modules] if low_rank else None,
        "learning_rate": rate,
        "lr_scheduler_type": "constant_with_warmup" if warm_constant else config.scheduler,
        "lr_scheduler_kwargs": dict(_SCHEDULES.get(config.scheduler, {})),
        "warmup_steps": config.warmup_share,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "adam_beta1": config.adam_beta1,
        "adam_beta2": config.adam_beta2,
        "adam_epsilon": config.adam_epsilon,
    }
