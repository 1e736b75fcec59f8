"""Names that settings accept. What needs a package or a GPU is checked when a run is admitted."""

from __future__ import annotations

from typing import Literal, get_args

Method = Literal["lora", "rslora", "dora", "pissa", "loraplus", "qlora", "qlora8", "full", "last_layers"]
Module = Literal["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "embed_tokens", "lm_head", "norms"]
TARGET_MODULES: tuple[Module, ...] = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
MODULES: tuple[Module, ...] = get_args(Module)
Tracker = Literal["trackio", "tensorboard", "wandb"]
WatchedMetric = Literal["eval_loss", "eval_token_accuracy", "eval_accuracy", "eval_macro_f1"]
# transformers' `SchedulerType`, without those that need arguments of their own or another loop.
Scheduler = Literal[
    "cosine", "linear", "constant", "polynomial", "inverse_sqrt", "cosine_with_restarts", "cosine_with_min_lr",
    "warmup_stable_decay",
]  # fmt: skip
# transformers' `OptimizerNames`; a test compares them.
Optimizer = Literal[
    "adamw_torch_fused", "adamw_torch", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit",
    "adafactor", "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit", "sgd", "adagrad", "rmsprop",
    "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "ademamix", "ademamix_8bit", "paged_ademamix_32bit",
    "paged_ademamix_8bit", "adamw_torch_4bit", "adamw_torch_8bit", "adamw_anyprecision", "adamw_torch_xla",
    "adamw_torch_npu_fused", "galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "lomo", "adalomo", "grokadamw",
    "schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd", "apollo_adamw", "apollo_adamw_layerwise",
    "stable_adamw",
]  # fmt: skip
