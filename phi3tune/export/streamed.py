"""onnxruntime-genai's model builder with bounded memory: no second copy of the weights ever exists.

The stock builder loads the checkpoint, copies it into one float32 protobuf and quantises that: 22.8 GB for 3.8 billion
parameters. Here weights are pages of the checkpoint's files until they are used, and each matrix is quantised by
itself, a slice at a time, by the very class that the builder gives the whole graph to. A block of weights that share a
scale never crosses slices, so the result is the same to the bit.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime_genai.models import builder
from transformers import AutoConfig, Phi3ForCausalLM

from phi3tune import system
from phi3tune.export.merge import weight_files
from phi3tune.export.shards import FLOATS, read_header

_CLASSES = ("Phi3MiniModel", "Phi3MiniLongRoPEModel")
# Weights that are quantised at a time, by each of as many threads as there are cores.
_SLICE = 1 << 22
_HEAD = "lm_head.weight"
_EMBEDDINGS = "model.embed_tokens.weight"


def create(folder: Path, out: Path, precision: str, device: str, options: dict[str, str]) -> None:
    """The builder's `create_model` on a checkpoint's folder, with its own `options`, in bounded memory."""
    cache = str(folder / "cache")
    given = [f"{key}={value}" for key, value in options.items()]
    parsed = builder.parse_extra_options(None, str(folder), str(out), precision, device, cache, given)
    with contextlib.ExitStack() as stack:
        for name in _CLASSES:  # the builder has no setting for the class that it takes
            changed = type(name, (_Streamed, getattr(builder, name)), {})
            stack.enter_context(mock.patch.object(builder, name, changed))
        builder.create_model(None, str(folder), str(out), precision, device, cache, **parsed)


class _Pages:
    """The weights of a checkpoint on the pages of its files, which the system reads when they are looked at."""

    def __init__(self, folder: Path) -> None:
        self._files: list[Any] = []
        self.weights: dict[str, torch.Tensor] = {}
        for path in weight_files(folder):
            data = np.memmap(path, dtype=np.uint8, mode="c")  # copy on write: torch wants memory that may be written
            self._files.append(data)
            for stored in read_header(path)[0]:
                part = torch.from_numpy(data[stored.start : stored.start + stored.length])
                self.weights[stored.name] = part.view(FLOATS[stored.dtype]).view(stored.shape)

    def released_after(self, tensor: ir.LazyTensor) -> ir.LazyTensor:
        """The same tensor, whose pages are given back once it was read: they count as this process's memory."""

        def read() -> ir.TensorProtocol:
            value = tensor.raw()
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which takes pages back by itself
                for data in self._files:
                    data._mmap.madvise(mmap.MADV_DONTNEED)
            return value

        return ir.LazyTensor(read, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)


class _Streamed:
    """Put before a model class of the builder, whose attributes and methods it uses."""

    def is_gqa_supported(self: Any) -> bool:
        """On a CPU for fp16, too: the runtime has the kernel, and what the builder takes instead knows no window."""
        return (self.ep, self.io_dtype) == ("cpu", ir.DataType.FLOAT16) or super().is_gqa_supported()  # type: ignore[misc]

    def load_weights(self: Any, input_path: str) -> Any:
        """The model on the pages of its files; a checkpoint that is quantised already is the builder's to read."""
        if self.quant_type is not None:
            return super().load_weights(input_path)  # type: ignore[misc]
        self._pages = _Pages(Path(input_path))
        weights = dict(self._pages.weights)
        if self.extra_options["shared_embeddings"]:
            weights.setdefault(_HEAD, weights[_EMBEDDINGS])
        with torch.device("meta"):
            model = Phi3ForCausalLM(AutoConfig.from_pretrained(input_path))
        model.load_state_dict(weights, assign=True)
        if "adapter_path" in self.extra_options:
            from peft import PeftModel

            return PeftModel.from_pretrained(model, self.extra_options["adapter_path"])
        return model

    def save_model(self: Any, out_dir: str) -> None:
        gc.collect()  # the modules, whose weights the graph has by now
        if self.quant_type is None:
            for value in self.model.graph.initializers.values():
                if isinstance(value.const_value, ir.LazyTensor):
                    value.const_value = self._pages.released_after(value.const_value)
        super().save_model(out_dir)  # type: ignore[misc]

    def to_nbits(self: Any) -> ir.Model:
        """The graph with its weights quantised one by one, in place of the builder's pass over all of them."""
        types, left_out = self.quant_attrs["op_types_to_quantize"], self.quant_attrs["nodes_to_exclude"]
        with ThreadPoolExecutor(system.cores()) as pool:
            for node in list(self.model.graph):
                if node.op_type in types and node.name not in left_out:
                    self._quantise(node, pool)
        quantised: ir.Model = self.model
        return quantised

    def _quantise(self: Any, node: ir.Node, pool: ThreadPoolExecutor) -> None:
        place, axis = (0, 0) if node.op_type == "Gather" else (1, 1)
        value = node.inputs[place]
        if value is None or value.const_value is None:
            return
        weight = np.moveaxis(value.const_value.numpy(), axis, 0)  # a MatMul has [in, out], a Gather [tokens, width]
        value.const_value = None
        width, block = weight.shape[1], self.quant_attrs["matmul_block_size"]
        # k_quant packs two zero points into a byte as if the blocks of a row were always even in number.
        padding = -width % (2 * block) if axis == 1 and self.quantization_algo == "k_quant" else 0
        if padding:
            weight = np.pad(weight, ((0, 0), (0, padding)))
        step = max(1, _SLICE // width)
        slices = [weight[start : start + step] for start in range(0, len(weight), step)]
        parts = list(pool.map(lambda part: self._quantised(node, value.name, part), slices))
        for tensors in zip(*(part.initializer for part in parts), strict=True):
            whole = np.concatenate([ir.from_proto(tensor).numpy() for tensor in tensors])
            self.make_initializer(whole[:, : -(-width // block)] if padding else whole, tensors[0].name)
        made = parts[0].node[0]
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in made.attribute}
        if made.op_type == "MatMulNBits":
            attributes |= {"N": len(weight), "K": width}
        new = ir.node(
            made.op_type,
            inputs=[self.make_value(name) for name in made.input],
            attributes=attributes,
            domain=made.domain,
            name=made.name,
        )
        graph = self.model.graph
        ir.convenience.replace_nodes_and_values(graph, node, [node], [new], [node.outputs[0]], [new.outputs[0]])
        if not value.uses():
            del graph.initializers[value.name]

    def _quantised(self: Any, node: ir.Node, name: str, weight: np.ndarray) -> onnx.GraphProto:
        """The graph of this node alone, as the builder's quantiser makes it of some rows of the node's weight."""
        # Of the builder's methods only the default one knows embeddings.
        gather = node.op_type == "Gather"
        method = "default" if gather else self.quantization_algo
        bits = self.int4_customized_weight_config.get(node.name, self.quant_attrs)["bits"]
        tensor = onnx.numpy_helper.from_array(weight if gather else np.ascontiguousarray(weight.T), name)
        graph = onnx.helper.make_graph([ir.to_proto(node)], "part", [], [], [tensor])
        quantizer = MatMulNBitsQuantizer(
            model=onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)]),
            bits=bits,
            block_size=self.quant_attrs["matmul_block_size"],
            is_symmetric=self.quant_attrs["is_symmetric"],
            accuracy_level=self.quant_attrs["accuracy_level"],
            op_types_to_quantize=self.quant_attrs["op_types_to_quantize"],
            algo_config=self.make_algo_config(method, {node.name: {"bits": bits}}),
        )
        with np.errstate(all="ignore"):  # a block of zeros divides by zero in k_quant, which copes with it
            quantizer.process()
        made: onnx.GraphProto = quantizer.model.model.graph
        return made
