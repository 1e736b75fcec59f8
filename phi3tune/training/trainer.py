"""TRL's SFTTrainer, set up for rows that are tokenised already and for telling only our own events."""

from __future__ import annotations

import math
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from transformers import AutoTokenizer
from transformers.trainer_callback import PrinterCallback, TrainerState
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from phi3tune.chat import NO_LOSS, Example
from phi3tune.config import TrainConfig
from phi3tune.engines.models import ModelRef
from phi3tune.engines.torch_model import choose_dtype, inference_dtype, weights_bytes
from phi3tune.errors import UserError
from phi3tune.training import checkpoints, methods, optimizers, processes, spread
from phi3tune.training.artefacts import copy_tokenizer
from phi3tune.training.tasks import Task


class Totals:
    """Sums since the last logged point."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.trained = 0
        self.correct = 0
        self.entropy = 0.0
        self.tokens = 0

    def summed(self) -> Totals:
        """Those of all processes."""
        sums = Totals()
        sums.loss, trained, correct, sums.entropy, tokens = processes.summed(
            [self.loss, self.trained, self.correct, self.entropy, self.tokens]
        )
        sums.trained, sums.correct, sums.tokens = int(trained), int(correct), int(tokens)
        return sums


class PhiTrainer(SFTTrainer):  # type: ignore[misc]
    """Scores loss-bearing positions only, sums what it scored, and writes nothing but the state it resumes from."""

    def __init__(self, task: Task, base: Path, loraplus_ratio: float | None, **options: Any) -> None:
        model = options["model"]
        exact = {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}
        super().__init__(**options)
        for name, weight in model.named_parameters():
            if name in exact and weight.dtype != exact[name].dtype:
                # TRL rounds adapters on quantised weights to bf16, which is too coarse to add small steps to.
                weight.data = exact[name].to(weight.device)
        self.remove_callback(PrinterCallback)
        self.task = task
        self.base = base
        self.adapter = methods.Adapter(model, task.labels) if isinstance(model, PeftModel) else None
        self.totals = Totals()
        self.grad_norm = 0.0
        self._loraplus_ratio = loraplus_ratio

    def go(self, checkpoint: Path | None, *, ended: bool = False) -> None:
        """Train to the end, from a verified checkpoint or from the start; `ended` when the checkpoint is the end."""
        if checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            if ended or state.global_step >= state.max_steps:  # `train` would take one step too many
                self.load_weights(checkpoint)
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
        scored = self.task.score(model, inputs)
        total = scored.loss.item()
        self._check(total, "loss")
        mask = inputs.get("attention_mask")
        self.totals.loss += total
        self.totals.trained += scored.trained
        self.totals.correct += scored.correct
        self.totals.entropy += scored.entropy
        self.totals.tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
        # torch averages the gradients of several processes, each of which saw its part of the step's tokens.
        return scored.loss * processes.world() / (scored.trained if num_items_in_batch is None else num_items_in_batch)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if processes.world() == 1:
            return super()._get_train_sampler(train_dataset)
        multiple = self.args.per_device_train_batch_size * processes.world()
        rows = len(self.train_dataset) - 1
        # The epoch is a sum of steps' shares, so a little below a whole number.
        return processes.EvenSampler(rows, multiple, self.args.seed, lambda: int((self.state.epoch or 0.0) + 1e-6))

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The config's; with LoRA+, the adapter's B has its own learning rate."""
        if self._loraplus_ratio is None:
            optimizer: torch.optim.Optimizer = super().create_optimizer(model)
            return optimizer
        kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = optimizer = create_loraplus_optimizer(
            self.model if model is None else model,
            kind,
            loraplus_lr_ratio=self._loraplus_ratio,
            loraplus_weight_decay=self.args.weight_decay,
            **options,
        )
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The config's, with what depends on the number of steps."""
        if self.args.lr_scheduler_type == "warmup_stable_decay":
            steps = math.ceil(num_training_steps * optimizers.DECAY_SHARE)
            self.args.lr_scheduler_kwargs = {"num_decay_steps": steps}
        for group in self.optimizer.param_groups:
            if "warmup_steps" in group:  # schedule-free optimizers warm up by themselves; Trainer gives them a share
                group["warmup_steps"] = self.args.get_warmup_steps(num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)

    def settle(self) -> None:
        """Put the weights into the form that they are measured and saved in: schedule-free optimizers average them.

        The next training step undoes it.
        """
        if self.optimizer is not None and callable(getattr(self.optimizer, "eval", None)):
            self.optimizer.eval()

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        self.grad_norm = float(norm)
        if not self.args.fp16:  # there, the gradient scaler skips such a step and goes on with a smaller scale
            self._check(self.grad_norm, "gradient")
        return norm

    def _check(self, value: float, what: str) -> None:
        # Before the optimizer steps, so that the last checkpoint is still sound.
        if not math.isfinite(value):
            raise UserError(
                f"the {what} at step {self.state.global_step + 1} is {value}: training has diverged; "
                f"start again with a lower --learning-rate than {self.args.learning_rate:g}"
            )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.settle()
        super()._save_checkpoint(*args, **kwargs)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if processes.world() > 1:  # each process wrote its own, on its own machine
            states = [Path(output_dir) / f"rng_state_{rank}.pth" for rank in range(processes.world())]
            processes.collect(states[processes.rank()], states)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # Trainer's own would add the tokenizer to every adapter, and a pickle of its settings. Where weights are
        # divided over processes, every one of them comes here and `state_dict` holds whole tensors on the first.
        if not processes.leads():
            return
        folder = Path(output_dir or self.args.output_dir)
        if self.adapter is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.adapter.save(folder, state_dict)
        else:
            self.model.save_pretrained(folder, state_dict=state_dict)
            copy_tokenizer(self.base, folder)

    def whole_state(self) -> dict[str, torch.Tensor] | None:
        """The whole tensors of a model that is divided over processes, all of which call this; None for others."""
        divided = self.is_fsdp_enabled or self.is_deepspeed_enabled
        return self.accelerator.get_state_dict(self.model_wrapped) if divided else None

    def load_weights(self, checkpoint: Path) -> None:
        """Take over the weights of a verified checkpoint of this run."""
        if self.adapter is not None:
            self.adapter.load(checkpoint)
        else:
            super()._load_from_checkpoint(str(checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        self.load_weights(Path(resume_from_checkpoint))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: it would hold the paths of this machine."""

    def _send_telemetry(self) -> None:
        """None: TRL reads the switch for it only once, when huggingface_hub is imported."""


def build(
    config: TrainConfig,
    run_dir: Path,
    task: Task,
    start: ModelRef,
    examples: list[Example],
    *,
    rate: float,
    micro: int,
    checkpointing: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> PhiTrainer:
    """A trainer that begins with `start`.

    rate           peak learning rate
    micro          conversations per forward pass
    checkpointing  whether activations are computed again in the backward pass
    dtype          of computation
    """
    # The last lines of a worker's log tell why it died: neither progress bars nor a line for every 8-bit product.
    logging.disable_progress_bar()
    getLogger("bitsandbytes.autograd._functions").setLevel(ERROR)
    if processes.world() > 1:
        examples = [*examples, Example([0], [NO_LOSS], truncated=False)]  # `EvenSampler` fills up with it
    rows = {"input_ids": [e.input_ids for e in examples], "labels": [e.labels for e in examples]}
    return PhiTrainer(
        task,
        start.base,
        config.loraplus_ratio,
        model=methods.prepare(config, task, start, dtype, device),
        args=_arguments(config, run_dir, rate, micro, checkpointing, dtype, device),
        train_dataset=Dataset.from_dict(rows),
        processing_class=AutoTokenizer.from_pretrained(start.base, trust_remote_code=False),
    )


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
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.dtype]


def _arguments(
    config: TrainConfig,
    run_dir: Path,
    rate: float,
    micro: int,
    checkpointing: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> SFTConfig:
    arguments = SFTConfig(
        output_dir=str(run_dir / checkpoints.FOLDER),
        num_train_epochs=config.epochs,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // processes.world() // micro,
        ddp_find_unused_parameters=False,
        **spread.sharding_arguments(config),
        **optimizers.arguments(config, rate),
        neftune_noise_alpha=config.neftune_alpha,
        seed=config.seed,
        use_cpu=device.type == "cpu",
        bf16=dtype is torch.bfloat16,
        fp16=dtype is torch.float16,
        activation_checkpointing=checkpointing,
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
