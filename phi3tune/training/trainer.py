"""TRL's SFTTrainer, set up for rows that are tokenised already and for telling only our own events."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, Phi3ForCausalLM, PreTrainedModel
from transformers.trainer_callback import PrinterCallback, TrainerState
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from phi3tune.chat import Example
from phi3tune.config import TARGET_MODULES, TrainConfig
from phi3tune.engines.torch_model import choose_dtype, inference_dtype, weights_bytes
from phi3tune.errors import UserError
from phi3tune.training import checkpoints
from phi3tune.training.artefacts import copy_tokenizer, save_model
from phi3tune.training.scoring import score


class Totals:
    """Sums since the last logged point."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.trained = 0
        self.correct = 0
        self.tokens = 0


class PhiTrainer(SFTTrainer):  # type: ignore[misc]
    """Scores loss-bearing positions only, sums what it scored, and writes nothing but the state it resumes from."""

    base: Path

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.remove_callback(PrinterCallback)
        self.totals = Totals()
        self.grad_norm = 0.0

    def go(self, checkpoint: Path | None) -> None:
        """Train to the end, from a verified checkpoint or from the start."""
        if checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            if state.global_step >= state.max_steps:  # `train` would take one step too many
                self._load_from_checkpoint(str(checkpoint))
                self.state = state
                return
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Mean over the loss-bearing tokens of the whole optimizer step, as transformers' own loss.

        Raises `UserError` when the loss is no longer a number.
        """
        scored = score(model, inputs)
        total = scored.loss.item()
        self._check(total, "loss")
        mask = inputs.get("attention_mask")
        self.totals.loss += total
        self.totals.trained += scored.trained
        self.totals.correct += scored.correct
        self.totals.tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
        return scored.loss / (scored.trained if num_items_in_batch is None else num_items_in_batch)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        self.grad_norm = float(norm)
        self._check(self.grad_norm, "gradient")
        return norm

    def _check(self, value: float, what: str) -> None:
        # Before the optimizer steps, so that the last checkpoint is still sound.
        if not math.isfinite(value):
            raise UserError(
                f"the {what} at step {self.state.global_step + 1} is {value}: training has diverged; "
                f"start again with a lower --learning-rate than {self.args.learning_rate:g}"
            )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Trainer's own would add the tokenizer to every adapter, and a pickle of its settings.
        folder = Path(output_dir or self.args.output_dir)
        save_model(self.model, folder)
        if isinstance(self.model, PreTrainedModel):
            copy_tokenizer(self.base, folder)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: it would hold the paths of this machine."""

    def _send_telemetry(self) -> None:
        """None: TRL reads the switch for it only once, when huggingface_hub is imported."""


def build(
    config: TrainConfig,
    run_dir: Path,
    base: Path,
    ref: str,
    examples: list[Example],
    *,
    rate: float,
    micro: int,
    dtype: torch.dtype,
    device: torch.device,
) -> PhiTrainer:
    """A trainer on the whole weights in `base`, known to others as `ref`; `micro` conversations per forward pass."""
    logging.disable_progress_bar()  # the last lines of a worker's log tell why it died
    rows = {"input_ids": [e.input_ids for e in examples], "labels": [e.labels for e in examples]}
    trainer = PhiTrainer(
        # The class is named, so that a config's `auto_map` is never followed.
        model=Phi3ForCausalLM.from_pretrained(
            base,
            # Whole weights are trained in fp32 under autocast: bf16 is too coarse to add small steps to.
            dtype=dtype if config.method == "lora" else torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
        ),
        args=_arguments(config, run_dir, rate, micro, dtype, device),
        train_dataset=Dataset.from_dict(rows),
        processing_class=AutoTokenizer.from_pretrained(base, trust_remote_code=False),
        peft_config=_lora(config) if config.method == "lora" else None,
    )
    trainer.base = base
    if config.method == "lora":
        trainer.model.peft_config["default"].base_model_name_or_path = ref
    return trainer


def training_dtype(config: TrainConfig, device: torch.device, base: Path) -> torch.dtype:
    """The dtype to compute in: as set, else bf16 on GPUs that have it, and on CPUs what answers are computed in.

    On a CPU with bf16 units, phi3-nano measured no faster in bf16 than in fp32 and took 1 to 1.8 GB more (likely
    kernels that are compiled for every length of a packed row). Raises `UserError` for bf16 that would be emulated.
    """
    native = choose_dtype(device) is torch.bfloat16
    if config.dtype == "bf16" and not native:
        raise UserError(
            "--dtype bf16 is not accepted: this device has no bf16 units and would emulate them, some 200 times "
            "slower; use --dtype fp32"
        )
    if config.dtype == "auto":
        # Phi-3 checkpoints are stored in 16 bits, so fp32 takes twice the bytes on disk.
        return inference_dtype(device, 2 * weights_bytes(base))
    return torch.bfloat16 if config.dtype == "bf16" else torch.float32


def _lora(config: TrainConfig) -> LoraConfig:
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(TARGET_MODULES),
        task_type="CAUSAL_LM",
    )


def _arguments(
    config: TrainConfig, run_dir: Path, rate: float, micro: int, dtype: torch.dtype, device: torch.device
) -> SFTConfig:
    warm_constant = config.scheduler == "constant" and config.warmup_share > 0
    arguments = SFTConfig(
        output_dir=str(run_dir / checkpoints.FOLDER),
        num_train_epochs=config.epochs,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        learning_rate=rate,
        lr_scheduler_type="constant_with_warmup" if warm_constant else config.scheduler,
        warmup_steps=config.warmup_share,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        use_cpu=device.type == "cpu",
        bf16=dtype is torch.bfloat16,
        activation_checkpointing=config.gradient_checkpointing,
        # Rows come cut and masked. Packing is TRL's padding-free collator over randomly drawn conversations: its
        # best-fit-decreasing packer would put rows of one length, so often of one topic, into one optimizer step.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        padding_free=config.packing and micro > 1,
        # `Watch` decides when to log, evaluate and save.
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device.type == "cuda",
        trust_remote_code=False,
    )
    # TRL refuses to run on several visible GPUs without a launcher; the first one is used.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
