"""LoRA adapters as .onnx_adapter files over one ONNX build of their base, switched per request.

Every linear layer of the base build gets a side path X A B, whose matrices are graph inputs with defaults of rank 0,
which add nothing. An adapter file holds its own matrices for those inputs, with the scaling in B; what it does not
change keeps the default. So one base build serves adapters of every rank and of every choice of layers.
(onnxruntime, "Run with LoRA adapters"; ONNX: an input that is an initializer too may be given at run time.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper

from phi3tune.config import ExportConfig
from phi3tune.engines.folders import ADAPTER_BASE, ONNX_ADAPTER, read_json
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.errors import UserError
from phi3tune.events import Phase
from phi3tune.export import make, rows
from phi3tune.export.make import Source
from phi3tune.export.merge import Lora, weight_files
from phi3tune.export.recipe import BUILD, Recipe
from phi3tune.paths import MANIFEST, Workspace, file_hash, manifest_problem, new_folder, write_json

BASE_SCHEMA = 1
_GRAPH = "model.onnx"
_MADE_FROM_HASH = "made_from_sha256"
_LAYER = re.compile(r"/model/layers\.(\d+)/(attn|mlp)/([a-z]+_proj)/MatMul(?:_Q[0-9]+)?")
# peft's modules and the matrices that the model builder divides them into, in the order of their rows.
_PARTS = {
    "self_attn.qkv_proj": (("qkv_proj",), ("q_proj", "k_proj", "v_proj")),
    "self_attn.o_proj": (("o_proj",),),
    "mlp.gate_up_proj": (("gate_up_proj",), ("gate_proj", "up_proj")),
    "mlp.down_proj": (("down_proj",),),
}


@dataclass(frozen=True)
class _Linear:
    """A linear layer of the graph: [inputs, outputs], and the name that its LoRA matrices have."""

    node: NodeProto
    inputs: int
    outputs: int

    @property
    def prefix(self) -> str:
        return self.node.name.removeprefix("/").rpartition("/")[0].replace("/", ".")

    @property
    def matrices(self) -> tuple[str, str]:
        return f"{self.prefix}.lora_A.weight", f"{self.prefix}.lora_B.weight"


def export(
    recipe: Recipe,
    source: Source,
    config: ExportConfig,
    path: Path,
    home_of: Callable[[ModelRef, Workspace], Path],
) -> dict[str, Any]:
    """Write the adapter of a run to `path`, and before that the build of its base unless it is there already.

    Returns `path`, `parity` (of base and adapter together against the merged weights) and `base`, the folder of the
    shared build. Raises `UserError` for an adapter that is more than LoRA matrices.
    """
    assert source.ref.adapter is not None  # `models.buildable` saw to it
    lora = Lora(source.ref.adapter)
    _check(lora, source.ref.label)
    base = _shared_base(replace(recipe, form="onnx"), source, config, home_of)
    source.reporter.emit(Phase(name="writing the adapter"))
    report = None
    with new_folder(path) as folder:
        _write(lora, base, folder / ONNX_ADAPTER)
        place = base.relative_to(source.workspace.root).as_posix()
        write_json(folder / ADAPTER_BASE, {"schema": BASE_SCHEMA, "base": place, "sha256": file_hash(base / MANIFEST)})
        write_json(folder / BUILD, recipe.record(source.ref.ref))
        if make.runs_here(recipe.device):
            ref = make.build_ref(base, source.weights, folder)
            with make.reference(source.weights) as merged:
                report = make.compare(merged, ref, recipe, source, config)
            report["measured"] = make.measured(ref, source)
        make.finish(folder, report, source, path.name)
    make.say(report, recipe, path, source.reporter)
    return {"path": str(path), "parity": report, "base": str(base)}


def _check(lora: Lora, label: str) -> None:
    other = "use --format onnx, which merges it"
    if lora.whole:
        raise UserError(f"{label} has modules that it replaces whole ({', '.join(sorted(lora.whole))[:200]}); {other}")
    if any(lora.magnitude(target) is not None for target in lora.targets):
        raise UserError(f"{label} is a DoRA adapter, which also scales the base's rows; {other}")
    strange = sorted(target for target in lora.targets if _module(target) is None)
    if strange:
        raise UserError(f"{label} adapts {strange[0]}, for which an ONNX build has no side path; {other}")


def _module(target: str) -> tuple[int, str] | None:
    """Layer and module of a weight that an adapter changes."""
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", target)
    return (int(found[1]), found[2]) if found and found[2] in _PARTS else None


def _shared_base(
    recipe: Recipe, source: Source, config: ExportConfig, home_of: Callable[[ModelRef, Workspace], Path]
) -> Path:
    """The folder of the base's build with side paths; an older one serves while its base is the same."""
    origin = source.ref.origin
    whole = resolve(origin, source.workspace) if origin is not None else source.ref
    base = replace(whole, folder=source.ref.base, adapter=None, origin=None)
    path = home_of(base, source.workspace) / "onnx" / f"{recipe.name}-lora"
    made_from = _weights_hash(base.base)
    settings = recipe.record(base.ref) | {_MADE_FROM_HASH: made_from}
    if (path / BUILD).is_file() and read_json(path / BUILD) == settings and manifest_problem(path) is None:
        return path

    def change(folder: Path) -> None:
        add_side_paths(folder)
        write_json(folder / BUILD, settings)

    chats, record = rows.held_out(base, source.workspace, source.reporter)
    own = replace(source, ref=base, weights=base.base, chats=chats, data=record)
    make.build(recipe, own, config, path, change)
    return path


def _weights_hash(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in (folder / "config.json", *weight_files(folder)):
        whole.update(bytes.fromhex(file_hash(path)))
    return whole.hexdigest()


def add_side_paths(folder: Path) -> None:
    """Give every linear layer of the build in `folder` inputs for LoRA matrices; without them it answers as before."""
    model = onnx.load(folder / _GRAPH, load_external_data=False)
    graph = model.graph
    linears = {linear.node.name: linear for linear in _linears(graph)}
    kind = _number_format(graph)
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        graph.node.append(node)
        linear = linears.get(node.name)
        if linear is not None:
            _add_side_path(graph, graph.node[-1], linear, kind)
    onnx.save(model, folder / _GRAPH)


def _add_side_path(graph: GraphProto, node: NodeProto, linear: _Linear, kind: int) -> None:
    first, second = linear.matrices
    result, rank = node.output[0], f"{linear.prefix}.rank"
    node.output[0] = f"{result}/base"
    shapes: dict[str, tuple[int | str, ...]] = {first: (linear.inputs, rank), second: (rank, linear.outputs)}
    for name, shape in shapes.items():
        graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        empty = [size if isinstance(size, int) else 0 for size in shape]
        graph.initializer.append(helper.make_tensor(name, kind, empty, b"", raw=True))
    graph.node.extend(
        [
            helper.make_node("MatMul", [node.input[0], first], [f"{result}/lora_A"], f"{node.name}/lora_A"),
            helper.make_node("MatMul", [f"{result}/lora_A", second], [f"{result}/lora_B"], f"{node.name}/lora_B"),
            helper.make_node("Add", [node.output[0], f"{result}/lora_B"], [result], f"{node.name}/lora_add"),
        ]
    )


def _linears(graph: GraphProto) -> Iterator[_Linear]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if not _LAYER.fullmatch(node.name):
            continue
        if node.op_type == "MatMul":
            inputs, outputs = shapes[node.input[1]]
        else:  # MatMulNBits
            sizes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            inputs, outputs = sizes["K"], sizes["N"]
        yield _Linear(node, inputs, outputs)


def _number_format(graph: GraphProto) -> int:
    """Of what flows between the layers, as the cache has it."""
    return int(next(each.type.tensor_type.elem_type for each in graph.input if each.name.startswith("past_key_values")))


def _write(lora: Lora, base: Path, path: Path) -> None:
    """The file with the adapter's matrices for the inputs of the base build."""
    graph = onnx.load(base / _GRAPH, load_external_data=False).graph
    linears: dict[tuple[int, str], _Linear] = {}
    for linear in _linears(graph):
        found = _LAYER.fullmatch(linear.node.name)
        assert found is not None
        linears[int(found[1]), found[3]] = linear
    dtype = torch.float16 if _number_format(graph) == TensorProto.FLOAT16 else torch.float32
    arrays: dict[str, np.ndarray] = {}
    for target in sorted(lora.targets):
        first, second, scale = lora.matrices(target)
        place = _module(target)
        assert place is not None  # checked before
        layer, module = place
        names = next(names for names in _PARTS[module] if (layer, names[0]) in linears)
        start = 0
        for name in names:
            linear = linears[layer, name]
            part = second[start : start + linear.outputs] * scale
            start += linear.outputs
            for key, matrix in zip(linear.matrices, (first, part), strict=True):
                arrays[key] = np.ascontiguousarray(matrix.T.to(dtype).numpy())
    # The format keeps no reference to the memory of its values: `arrays` lives until they are written.
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters(values)
    file.export_adapter(str(path))
