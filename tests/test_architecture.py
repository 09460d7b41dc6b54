"""The house keeps its shape: what may import what, what must stay light, and how long a function or file may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    "pipelines",
    "components",
    "arm.cli",
    "arm.launch",
    "arm.takedown",
    "arm.jobs",
    "arm.preflight",
    "arm.recipes",
    "arm.rl",
    "arm.toy",
    "arm.evaluation",
    "arm.tokenizer",
    "arm.training",
    "arm.model",
    "arm.data",
    "arm.tracking",
    "arm.foundation",
)
"""A layer may import itself and the layers after it."""
ALIASES = {
    "arm.__main__": "arm.cli",
    "arm.command_line": "arm.cli",
    "arm.evaluation_verbs": "arm.cli",
    "arm.release_verbs": "arm.cli",
    "arm.launch_kubernetes": "arm.launch",
    "arm.resources": "arm.launch",
}
FOUNDATION = (
    "arm.manifest", "arm.records", "arm.storage", "arm.config", "arm.errors", "arm.progress", "arm.lock",
    "arm.outside", "arm.children", "arm.device", "arm.tombstones", "arm.posting", "arm.retries",
    "arm.earlier",
)  # fmt: skip
TOY_NAMERS = ("arm.toy", "arm.recipes.toy", "arm.recipes.tiny", "arm.recipes.proof")
"""Only these import the toy world, the recipes its config alone; `arm.jobs` names its jobs by string."""
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 350
LIGHT = ("arm.jobs", "arm.recipes", "arm.preflight.command", "pipelines.run")


def sources(*folders: str) -> list[Path]:
    """The Python files of some folders."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def module_of(path: Path) -> str:
    """`arm/data/guard.py` -> `arm.data.guard`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path, *, for_types: bool = False) -> Iterator[str]:
    """What a file imports, at its top or inside functions; imports for type checkers alone count with `for_types`."""
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> str | None:
    """The layer of a module of ours; None for everybody else's and for the package `arm` itself."""
    top = module.split(".")[0]
    if top in ("pipelines", "components"):
        return top
    package = ".".join(module.split(".")[:2])
    package = ALIASES.get(package, package)
    if package in FOUNDATION:
        return "arm.foundation"
    return package if package in ORDER else None


def import_graph(paths: list[Path]) -> dict[str, set[str]]:
    """Module -> the modules among `paths` that it imports, for type checkers and inside functions too."""
    modules = {module_of(path) for path in paths}

    def module_behind(name: str) -> str:
        """`arm.errors.UserError` -> `arm.errors`; empty for everybody else's."""
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    return {
        module_of(path): {module_behind(name) for name in imports(path, for_types=True)} - {"", module_of(path)}
        for path in paths
    }


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of every function in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module_of(path)}.{node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_every_module_belongs_to_a_layer() -> None:
    outside = [module_of(path) for path in sources("arm") if layer(module_of(path)) is None]
    assert outside == ["arm"]


def test_imports_only_point_to_the_right() -> None:
    wrong = []
    for path in sources("arm", "components", "pipelines"):
        own = layer(module_of(path))
        for imported in imports(path):
            other = layer(imported)
            if own and other and ORDER.index(other) < ORDER.index(own):
                wrong.append(f"{module_of(path)} imports {imported}")
    assert not wrong


def test_no_imports_form_a_cycle() -> None:
    graph = import_graph(sources("arm", "components", "pipelines"))
    assert "arm.manifest" in graph["arm.evaluation.evaluate"]
    TopologicalSorter(graph).prepare()  # a CycleError names the modules of the cycle


def test_the_toy_world_is_imported_by_its_recipes_alone() -> None:
    wrong = [
        f"{module_of(path)} imports {imported}"
        for path in sources("arm", "components", "pipelines")
        if not module_of(path).startswith(TOY_NAMERS)
        for imported in imports(path)
        if imported.startswith("arm.toy")
    ]
    assert not wrong


def test_recipes_import_nothing_of_the_toy_world_but_its_config() -> None:
    named = {imported for path in sources("arm/recipes") for imported in imports(path) if "arm.toy" in imported}
    assert named
    assert all(imported.startswith("arm.toy.config") for imported in named)


def test_arm_never_imports_kfp() -> None:
    assert not [path for path in sources("arm") if any(name.split(".")[0] == "kfp" for name in imports(path))]


def test_a_component_does_nothing_but_launch() -> None:
    for path in sources("components/data", "components/model", "components/release"):
        body = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        if body and path.stem not in ("compare_evaluations", "compare_tokenizers"):
            assert len(body) == 1, path
            docstring, imported, call = body[0].body
            launcher = "launch_part" if path.stem == "tokenize_part" else "launch"
            assert ast.unparse(imported) == f"from arm.launch import {launcher}", path
            assert ast.unparse(call).startswith(f"{launcher}("), path
            assert isinstance(docstring, ast.Expr), path


def test_functions_fit_a_screen_and_files_stay_readable() -> None:
    long = [
        f"{name}: {lines}"
        for path in sources("arm", "components", "pipelines")
        for name, lines in functions(path)
        if lines > MAX_FUNCTION_LINES
    ]
    assert not long
    longer = [str(path) for path in sources("arm", "components", "pipelines") if _lines(path) > MAX_FILE_LINES]
    assert not longer


def test_what_numba_keeps_compiled_is_made_of_its_own_file_or_of_a_folder_that_it_watches() -> None:
    """numba compiles a cached function anew when its own file changes: a constant of another would be stale for ever.
    The loops of `wat_kernels` hold a digest of their folder instead."""
    folder = ROOT / "arm/data/wat_kernels"
    alone = [path for path in sources("arm") if "njit(cache=True)" in path.read_text() and path.parent != folder]
    assert alone == [ROOT / "arm/training/plan/kernel.py"]
    foreign = [name for path in alone for name in imports(path) if name.startswith("arm.")]
    inside = [name for path in folder.glob("*.py") for name in imports(path) if name.startswith("arm.")]
    assert foreign + [name for name in inside if not name.startswith("arm.data.wat_kernels")] == []


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.parametrize(
    "module", [*LIGHT, *(module_of(path) for path in sources("arm") if "config" in (path.stem, path.parent.name))]
)
def test_choosing_and_submitting_a_run_needs_no_heavy_package(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "from arm import recipes\n"
        "[recipes.find(name) for name in recipes.RECIPES]\n"
        "heavy = {'torch', 'numpy', 'pyspark', 'kfp', 'mlflow', 'transformers', 'pyarrow', 'sqlalchemy', 'boto3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
