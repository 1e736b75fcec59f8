"""One set of Phi-3 weights in memory, with any number of LoRA adapters beside them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import Phi3Config, Phi3ForCausalLM

from phi3tune import system
from phi3tune.engines.decoding import rope_switch
from phi3tune.errors import UserError

# peft imports it, and on a CPU it then warns of an optional package that nothing here needs.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def choose_device() -> torch.device:
    """The first GPU that PyTorch sees, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(device: torch.device | str) -> torch.dtype:
    """bf16 where the device computes in it natively, else fp32.

    A CPU without bf16 units multiplies matrices in bf16 about 200 times slower than in fp32.
    """
    if torch.device(device).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        abilities = torch.cpu.get_capabilities()
        native = bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32


def inference_dtype(device: torch.device, weights_bytes_fp32: int) -> torch.dtype:
    """The dtype to answer in. A CPU decodes faster in fp32 even where it has bf16 units, if the weights fit well.

    Measured with AVX512_BF16 on one row, as in decoding: 3072 x 8192 takes 5.7 ms in fp32, 8.6 ms in bf16.
    """
    if device.type == "cpu" and weights_bytes_fp32 <= system.memory().total // 2:
        return torch.float32
    return choose_dtype(device)


class TorchModel:
    """`Phi3ForCausalLM` with its adapters; `select` chooses which of them the next forward pass goes through."""

    def __init__(
        self,
        folder: Path,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        threads: int | None = None,
    ) -> None:
        torch.set_num_threads(threads or system.cores())
        self.folder = folder
        self.device = device or choose_device()
        self.config = Phi3Config.from_pretrained(folder, local_files_only=True)
        self.dtype = dtype or inference_dtype(self.device, 4 * parameters(folder))
        self.causal = load_weights(folder, self.dtype, Phi3ForCausalLM).to(self.device).eval()
        self._peft: Any = None
        self._names: dict[str, str] = {}  # ours may hold dots, module names may not
        self._made = 0
        self._selected: str | None = None
        self.rope_switch = rope_switch(self.config.to_dict())

    def attach(self, name: str, folder: Path) -> None:
        """Load an adapter beside the weights. Raises `UserError` when it does not belong to this base."""
        from peft import PeftModel

        check_adapter_shapes(folder, self.causal, self.folder)
        inner = f"adapter{self._made}"
        try:
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(self.causal, folder, adapter_name=inner)
            else:
                self._peft.load_adapter(folder, adapter_name=inner, torch_device=str(self.device))
        except (RuntimeError, ValueError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"adapter {folder} does not fit the base {self.folder}: {detail}") from error
        self._made += 1
        self._names[name] = inner
        self._peft.eval()
        self._selected = inner  # loading may have switched adapters on
        self.select(None)

    def detach(self, name: str) -> None:
        """Free an adapter's memory."""
        self.select(None)
        inner = self._names.pop(name)
        if not self._names:
            self.causal, self._peft = self._peft.unload(), None
            return
        self._peft.set_adapter(next(iter(self._names.values())), inference_mode=True)
        self._peft.base_model.disable_adapter_layers()
        self._peft.delete_adapter(inner)

    def select(self, name: str | None) -> None:
        """Use one adapter, or with None the base alone, from now on."""
        inner = None if name is None else self._names[name]
        if inner == self._selected:
            return
        if inner is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(inner, inference_mode=True)
        self._selected = inner

    def hidden(self, ids: torch.Tensor, **options: Any) -> torch.Tensor:
        """Last hidden states [B, T, H] of ids [B, T]."""
        states: torch.Tensor = self.causal.model(input_ids=ids, **options).last_hidden_state
        return states

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits, float32 [..., V], of hidden states [..., H]."""
        logits: torch.Tensor = self.causal.lm_head(hidden)
        return logits.float()

    def ids(self, token_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(token_ids)], device=self.device)

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values per token."""
        config = self.config
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * config.num_key_value_heads * head * self.dtype.itemsize)

    def free_memory(self) -> int:
        """Bytes that the device has left."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return system.memory().available

    @property
    def total_memory(self) -> int | None:
        """Bytes of the device's own memory; None where it is the machine's."""
        return int(torch.cuda.mem_get_info(self.device)[1]) if self.device.type == "cuda" else None

    def close(self) -> None:
        """Free the weights."""
        del self.causal, self._peft
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def check_adapter_shapes(folder: Path, model: Any, base: Path) -> None:
    """Refuse an adapter of another model before it is half built into the one loaded from `base`."""
    for key, shape in _shapes(folder / "adapter_model.safetensors"):
        module, _, matrix = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        if matrix not in ("lora_A", "lora_B"):
            continue
        try:
            layer = model.get_submodule(module)
            fits = shape[1] == layer.in_features if matrix == "lora_A" else shape[0] == layer.out_features
        except AttributeError:
            fits = False
        if not fits:
            raise UserError(f"adapter {folder} does not fit the base {base}: {module} differs; name its own base")


def weights_bytes(folder: Path) -> int:
    """Size on disk of the safetensors in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _shapes(path: Path) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of every tensor in a safetensors file, from its header."""
    try:
        with safe_open(path, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  (not a dict)
                yield key, tensors.get_slice(key).get_shape()
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}; download or make it again") from None


def parameters(folder: Path) -> int:
    """Number of weights in the safetensors of a folder."""
    return sum(math.prod(shape) for path in folder.glob("*.safetensors") for _, shape in _shapes(path))


def load_weights(
    folder: Path, dtype: torch.dtype, model_class: Any, *, absent: frozenset[str] = frozenset(), **options: Any
) -> Any:
    """A model of the class named; no code of the folder is run. Weights in `absent` come from elsewhere.

    Raises `UserError` when others are missing.
    """
    try:
        model, report = model_class.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (OSError, RuntimeError, ValueError, KeyError, ImportError, SafetensorError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"the checkpoint in {folder} cannot be loaded: {detail}") from error
    mismatched = {key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]}
    wrong = sorted({*report["missing_keys"], *mismatched} - absent)
    if wrong:
        raise UserError(f"the checkpoint in {folder} lacks weights or has them in wrong shapes: {', '.join(wrong[:3])}")
    return model
