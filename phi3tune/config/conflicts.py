"""Settings of a run that cannot be together, each with its way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phi3tune.config.names import TARGET_MODULES

if TYPE_CHECKING:
    from phi3tune.config.train import TrainConfig


def conflicts(config: TrainConfig) -> list[str]:
    """Every combination that cannot be, in words; empty when all is well."""
    return [*_method(config), *_task(config), *_length(config), *_watching(config), *_spread(config)]


def _method(config: TrainConfig) -> list[str]:
    found = []
    full_only = [name for name in config.target_modules if name not in TARGET_MODULES]
    if config.adapter and full_only:
        found.append(
            f"--target-modules {','.join(full_only)} cannot carry an adapter; leave them out or use --method full"
        )
    if not config.adapter:
        given = {
            "--use-rslora": config.use_rslora,
            "--use-dora": config.use_dora,
            f"--init {config.init}": config.init != "default",
            "--loraplus-ratio": config.loraplus_ratio is not None,
            f"--base-bits {config.base_bits}": config.base_bits != "as_stored",
            "--lora-dropout": config.lora_dropout > 0,
        }
        odd = [name for name, is_given in given.items() if is_given]
        if odd:
            found.append(f"{', '.join(odd)} belong to adapters; use --method lora or leave them out")
    if config.base_bits != "as_stored" and config.init in ("pissa", "olora"):
        found.append(
            f"--init {config.init} changes the base weights, which --base-bits {config.base_bits} keeps quantised; "
            "use --init default"
        )
    if config.use_dora and config.init in ("pissa", "olora"):
        found.append(f"--use-dora with --init {config.init} cannot be saved as a plain adapter; use --init default")
    if config.loraplus_ratio is not None and not config.optimizer.startswith("adamw_torch"):
        found.append(f"--loraplus-ratio works with AdamW; use --optimizer adamw_torch in place of {config.optimizer}")
    return found


def _task(config: TrainConfig) -> list[str]:
    if config.task != "classification":
        return []
    found = []
    if config.loss == "dft":
        found.append("--loss dft weighs tokens and --task classification has none; use --loss cross_entropy")
    if not config.adapter and "lm_head" in config.target_modules:
        found.append("--target-modules lm_head: --task classification has a head of its own; leave lm_head out")
    if config.best_metric == "eval_token_accuracy":
        found.append("--best-metric eval_token_accuracy is for chats; use eval_loss, eval_accuracy or eval_macro_f1")
    return found


def _length(config: TrainConfig) -> list[str]:
    found = []
    if config.micro_batch is not None and config.batch_size % config.micro_batch:
        found.append(
            f"--micro-batch {config.micro_batch} does not divide --batch-size {config.batch_size}; choose a divisor"
        )
    if config.loss == "dft" and config.label_smoothing:
        found.append("--loss dft takes no --label-smoothing; use one of them")
    return found


def _watching(config: TrainConfig) -> list[str]:
    found = []
    if config.task == "chat" and config.best_metric in ("eval_accuracy", "eval_macro_f1"):
        found.append(
            f"--best-metric {config.best_metric} is for --task classification; use eval_loss or eval_token_accuracy"
        )
    watched = config.keep_best or config.early_stopping is not None
    if watched and not config.validates:
        found.append("--keep-best and --early-stopping need validation rows; raise --validation-share or drop them")
    return found


def _spread(config: TrainConfig) -> list[str]:
    found = []
    world = config.processes * config.machines
    if config.machine_rank >= config.machines:
        found.append(f"--machine-rank {config.machine_rank} must be below --machines {config.machines}")
    if config.batch_size % world:
        found.append(
            f"--batch-size {config.batch_size} does not divide over {world} processes; use a multiple of {world}"
        )
    if config.micro_batch is not None and world > 1 and config.batch_size % (config.micro_batch * world):
        found.append(
            f"--micro-batch {config.micro_batch} on {world} processes does not divide --batch-size {config.batch_size}"
        )
    if config.sharding != "none" and world == 1:
        found.append(f"--sharding {config.sharding} divides over processes and there is one; raise --processes")
    if config.sharding != "none" and config.keep_best:
        found.append(
            f"--keep-best loads a whole checkpoint, and --sharding {config.sharding} has none; use one of them"
        )
    if config.sharding != "none" and config.base_bits != "as_stored":
        found.append(
            f"--sharding {config.sharding} with --base-bits {config.base_bits} is not supported; use one of them"
        )
    return found
