"""What must not stand in the code at all, and how old its libraries may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "phi3tune"
FLOORS = {
    "gradio": "6.20",
    "starlette": "1.0.1",
    "transformers": "5.3",
    "torch": "2.10",
    "pyarrow": "14.0.1",
    "onnx": "1.21",
    "python-multipart": "0.0.27",
}
# Called by these names, they run a shell, code in a file of a stranger, or what a pickle says.
FORBIDDEN = {
    "eval", "exec", "compile_command", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "pickle.load", "pickle.loads", "cloudpickle.loads", "joblib.load", "marshal.loads", "yaml.load", "yaml.unsafe_load",
    "shelve.open", "mktemp", "tempfile.mktemp",
}  # fmt: skip


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """File and line, dotted name and node of every call in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node


def given(node: ast.Call, name: str) -> str | None:
    return next((ast.unparse(word.value) for word in node.keywords if word.arg == name), None)


def test_programs_are_started_without_a_shell() -> None:
    started = []
    for place, name, node in calls():
        assert given(node, "shell") in (None, "False"), place
        if name.startswith(("subprocess.run", "subprocess.Popen", "system.start_process", "os.exec", "os.spawn")):
            started.append(place)
            first = node.args[0]
            # A list, or a name that holds one (mypy knows that it does): never one text made of parts.
            assert isinstance(first, ast.List | ast.Name | ast.BinOp), (place, ast.unparse(first))
            assert not (isinstance(first, ast.BinOp) and isinstance(first.left, ast.Constant)), place
    assert len(started) > 5


def test_nothing_runs_what_a_file_says() -> None:
    loaders = 0
    for place, name, node in calls():
        assert name not in FORBIDDEN, place
        assert given(node, "trust_remote_code") in (None, "False"), place
        if name.rpartition(".")[2] == "from_pretrained":
            loaders += 1
        if name == "torch.load":
            assert given(node, "weights_only") == "True", place
        if name.endswith("Environment") and "jinja" in ast.unparse(node).lower():
            assert given(node, "autoescape") == "True", place
    assert loaders > 3


def test_templates_are_our_own() -> None:
    """Jinja runs only on files of the package: a chat template of a model is looked up by its hash and never run."""
    users = [path for path in PACKAGE.rglob("*.py") if "from jinja2 import" in path.read_text(encoding="utf-8")]
    assert {path.relative_to(PACKAGE).as_posix() for path in users} == {"evaluation/html.py", "export/page.py"}
    for place, name, node in calls():
        if name.endswith("apply_chat_template"):
            raise AssertionError(f"{place}: {ast.unparse(node)}")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


@pytest.mark.parametrize(("package", "floor"), FLOORS.items())
def test_libraries_are_not_older_than_their_last_hole(package: str, floor: str) -> None:
    from importlib.metadata import version

    locked = re.search(rf"^{re.escape(package)}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None and numbers(locked[1]) >= numbers(floor)
    assert numbers(version(package)) >= numbers(floor)
