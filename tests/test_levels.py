"""The architecture, enforced: which module may import which, and what must stay lazy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import phi3tune

PACKAGE = Path(phi3tune.__file__).parent
# Lowest first; a module imports from its own place or from a place before it.
ORDER = [
    ["errors", "system", "paths", "events", "config", "hosted"],
    ["chat", "data"],
    ["engines"],
    ["evaluation"],
    ["training", "export"],
    ["doctor", "store", "about", "admission", "jobs", "worker"],
    [
        "archive",
        "builds",
        "compare_runs",
        "conversations",
        "feedback",
        "housekeeping",
        "iterate",
        "janitor",
        "presets",
        "sweeps",
        "votes",
    ],
    ["conformance", "guardrails", "keys", "monitor"],
    ["api", "server", "ui"],
    ["cli", "__main__"],
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# Third-party modules that only these parts of the package may import, at any place in a file.
OWNERS = {
    "gradio": {"ui"},
    "fastapi": {"server"},
    "trl": {"training"},
    "peft": {"training", "export", "engines"},
    "onnxruntime_genai": {"engines", "export"},
}
# Parts that must come up fast never import these at module level.
LAZY_PARTS = set(LEVEL) - {"engines", "evaluation", "training", "export", "__main__"}
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "onnxruntime_genai", "pyarrow"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level: bool = False) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["phi3tune", *path.relative_to(PACKAGE).parent.parts]
    nodes = _top_level(tree) if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield node.lineno, module
            if module == "phi3tune":
                yield from ((node.lineno, f"phi3tune.{alias.name}") for alias in node.names)


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_downward(path: Path) -> None:
    own = part(path)
    assert own in LEVEL, f"{own} has no level: add it to ORDER and to phi3tune/__init__.py"
    for line, name in imports(path):
        root, _, rest = name.partition(".")
        if root == "phi3tune" and rest:
            other = rest.split(".")[0]
            if other in LEVEL:
                assert LEVEL[other] <= LEVEL[own], f"{path}:{line} imports {name}, which lies above {own}"
        owners = OWNERS.get(root)
        assert owners is None or own in owners, f"{path}:{line}: {root} belongs in {owners} only"


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if part(path) in LAZY_PARTS],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_fast_parts_import_nothing_heavy_at_module_level(path: Path) -> None:
    heavy = {name for _, name in imports(path, top_level=True) if name.split(".")[0] in HEAVY}
    assert not heavy


def test_neighbours_do_not_import_each_other() -> None:
    for path in modules():
        other = {"training": "export", "export": "training", "server": "ui", "ui": "server"}.get(part(path))
        if other:
            assert not any(name.startswith(f"phi3tune.{other}") for _, name in imports(path)), path


def test_help_and_page_modules_do_not_load_torch() -> None:
    code = (
        "import sys, phi3tune.cli, phi3tune.cli.train, phi3tune.jobs, phi3tune.engines.models, phi3tune.ui.launch\n"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'onnxruntime_genai'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_imports_no_settings() -> None:
    code = (
        "import sys\nfrom phi3tune.cli import main\nmain(['--help'])\n"
        "heavy = {'pydantic', 'rich', 'numpy'} & set(sys.modules)\nsys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_no_file_is_over_400_lines() -> None:
    root = PACKAGE.parent
    files = [
        path for folder in ("phi3tune", "tests", "recipes", "benchmarks") for path in (root / folder).rglob("*.py")
    ]
    too_long = {
        path.name: count for path in files if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not too_long


def test_remote_code_is_never_trusted() -> None:
    for path in modules():
        assert "trust_remote_code=True" not in path.read_text(encoding="utf-8"), path
