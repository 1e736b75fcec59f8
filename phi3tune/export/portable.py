"""The portable ONNX build: transformers' own exporter, for any ONNX runtime and for classifiers.

One graph from `input_ids` and `attention_mask` to `logits`, without a KV cache: [B, L] of a classifier, [B, T, V] of a
chat model.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Phi3ForCausalLM, Phi3ForSequenceClassification

from phi3tune.config import Precision
from phi3tune.data import Conversation
from phi3tune.engines.classifier import Classifier, Prompts
from phi3tune.engines.folders import task_of
from phi3tune.engines.torch_model import load_weights
from phi3tune.errors import UserError
from phi3tune.events import Progress, Reporter
from phi3tune.export.merge import write_model_files
from phi3tune.export.parity import PARITY_SCHEMA, TIE

_NOISY = ("torch.onnx", "onnxscript", "transformers", "root")


def build(source: Path, out: Path, precision: Precision) -> None:
    """Write the portable build of the checkpoint in `source` into the existing, empty folder `out`.

    fp32, or int8 by onnxruntime's dynamic quantisation: weights beforehand, activations on the way. Raises `UserError`
    when what the exporter needs is not installed.

    Measured on phi3-nano over 60 held-out rows, mean KL and perplexity ratio: onnxruntime's default 2.7e-4 and
    1.0049, a scale for every output of a matrix 2.3e-4 and 1.0028, 7 of the 8 bits as well 1.8e-4 and 0.9999. Sums of
    full bytes saturate on CPUs without VNNI (onnxruntime's guide to quantisation, on reduce_range).
    """
    if find_spec("onnxscript") is None:
        raise UserError("a portable build needs the package onnxscript; install it with: pip install onnxscript")
    from transformers.exporters import OnnxConfig, OnnxExporter, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    model_class = Phi3ForSequenceClassification if task_of(source) == "classification" else Phi3ForCausalLM
    model = load_weights(source, torch.float32, model_class).eval()
    model.config.use_cache = False
    int8 = OnnxRuntimeDynamicConfig(per_channel=True, reduce_range=True)
    quantizer = OnnxRuntimeQuantizer(int8) if precision == "int8" else None
    with _quiet():
        exported = OnnxExporter().export(model, _example(model), config=OnnxConfig(dynamic=True, quantizer=quantizer))
        exported.save_pretrained(out)
    write_model_files(source, out)  # the tokenizer, and the config as it was before the cache was turned off


def _example(model: Any) -> dict[str, torch.Tensor]:
    """Two rows of different length: what is traced is right for any number of rows and tokens."""
    pad = model.config.pad_token_id or 0
    ids = torch.arange(8).repeat(2, 1) + pad + 1
    ids = ids % model.config.vocab_size
    mask = torch.ones_like(ids)
    ids[1, 6:], mask[1, 6:] = pad, 0
    return {"input_ids": ids, "attention_mask": mask}


@dataclass(frozen=True)
class LabelLimits:
    """What a classifier's build must keep to: share of rows with the same label, largest change of a probability."""

    same_label: float
    max_difference: float


# int8 of a phi3-nano tuned on three labels gave 99 % the same labels on 190 rows, 100 of them about none of its labels,
# and moved no probability by more than 0.13.
LABEL_LIMITS: dict[Precision, LabelLimits] = {
    "int8": LabelLimits(same_label=0.98, max_difference=0.2),
    "fp32": LabelLimits(same_label=1.0, max_difference=1e-4),
}


def compare_labels(
    merged: Classifier, build: Classifier, chats: Sequence[Conversation], precision: Precision, reporter: Reporter
) -> dict[str, Any] | None:
    """The content of a classifier's parity.json; None when the user stopped the job.

    same_label        share of rows to which both give the same label, or a label that is a tie
    max_difference    largest difference of a label's probability; `mean_difference` is the mean over rows and labels
    """
    prompts = Prompts(merged.renderer, min(merged.info.context_length, build.info.context_length))
    rows = [ids for ids, _ in prompts.ids([chat.prompt_messages for chat in chats])]
    found: list[np.ndarray] = []
    for classifier in (merged, build):
        if reporter.stop_requested():
            return None
        reporter.emit(Progress(done=len(found) * len(rows), total=2 * len(rows), unit="conversations"))
        found.append(classifier.logits_of(rows))
    reporter.emit(Progress(done=2 * len(rows), total=2 * len(rows), unit="conversations"))
    ours, theirs = found
    chosen = ours[np.arange(len(rows)), theirs.argmax(axis=1)]
    difference = np.abs(_shares(ours) - _shares(theirs))
    limits = LABEL_LIMITS[precision]
    measured = {
        "same_label": float((np.isfinite(theirs).all(axis=1) & (chosen >= ours.max(axis=1) - TIE)).mean()),
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
    }
    return {
        "schema": PARITY_SCHEMA,
        "precision": precision,
        "task": "classification",
        "rows": len(rows),
        **{key: value if math.isfinite(value) else None for key, value in measured.items()},
        "limits": {"same_label": limits.same_label, "max_difference": limits.max_difference},
        # A NaN is within no limit.
        "passed": measured["same_label"] >= limits.same_label and measured["max_difference"] <= limits.max_difference,
    }


def _shares(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 [N, L]."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep standard output free for our own result, and the exporter's remarks on versions out of the log."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings(action="ignore", category=FutureWarning):
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
