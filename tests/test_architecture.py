"""What keeps the house in order: import directions, a light import, public names, docstrings, words that stay out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import goodfit

ROOT = Path(goodfit.__file__).parents[1]
PACKAGE = ROOT / "goodfit"

# Imports point down only. What stands in one line may import from its own line and from those below.
LAYERS = [
    ["cli", "__main__", "__init__"],
    ["study_cli"],
    ["studies", "trying"],
    ["job", "findings", "integrations"],
    ["screen", "pages"],
    ["origin"],
    ["run", "record", "teacher", "ensemble", "soup"],
    ["features"],
    ["judged"],
    ["evaluate", "execution", "preflight", "hindsight", "loop"],
    ["plan"],
    ["defaults", "rates"],
    ["pretrained"],
    ["data", "report", "evaluation"],
    ["recipe", "program", "testing", "resumption"],
    ["techniques", "children"],
    ["watching"],
    ["proof"],
    ["models", "rules"],
    ["probes", "check"],
    ["observer"],
    ["technique", "keyed", "store", "lock", "disk", "machine", "interrupt", "distributed", "plot", "trust", "foreign"],
    ["types", "errors", "visible"],
]
LEVEL = {name: len(LAYERS) - number for number, names in enumerate(LAYERS) for name in names}

# Diagnosis must work without the training half, and techniques and models in anybody's loop.
MAY_IMPORT = {
    "types": set(),
    "errors": set(),
    "keyed": set(),
    "technique": {"errors"},
    "store": {"disk", "errors", "visible"},
    "visible": set(),
    "trust": {"errors", "visible"},
    "foreign": {"errors", "visible"},
    "disk": set(),
    "observer": {"observer"},
    "probes": {"probes", "observer", "keyed", "types"},
    "program": {"children", "watching", "observer", "types", "errors"},
    "children": {"watching", "rules", "probes", "check", "observer", "store", "types"},
    "resumption": {"resumption", "observer", "store", "types", "errors"},
    "testing": {"watching", "rules", "probes", "check", "types", "errors"},
    "integrations": {"integrations", "watching", "types", "errors"},
    "watching": {"proof", "rules", "probes", "check", "observer", "types"},
    "proof": {"probes", "types"},
    "check": {"types"},
    "rules": {"rules", "check", "types"},
    "models": {"models", "technique", "keyed", "types", "errors", "foreign"},
    "techniques": {"techniques", "models", "technique", "keyed", "types", "errors"},
    "recipe": {"techniques", "technique", "errors"},
    "evaluation": {"evaluation", "models", "keyed", "types", "errors"},
    "data": {"data", "recipe", "keyed", "types", "errors", "store", "technique", "trust"},
}
NOT_IN = {
    "types": {"pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "torchvision", "rich", "typer"},
    "models": {"pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "rich", "typer"},
    "techniques": {"pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "rich", "typer"},
    "rules": {"pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "rich", "typer", "torch"},
    "check": {"pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "rich", "typer", "torch"},
    "probes": {"pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "rich", "typer"},
    "recipe": {"pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "rich", "typer"},
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The layer's name of a source file: its folder, or its own name at the top."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Every module that a file imports, in full; those for type checkers only are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    idle = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in idle:
            continue
        if isinstance(node, ast.Import):
            yield from ((name.name, node) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            for name in node.names:
                inner = PACKAGE.parent.joinpath(*f"{node.module}.{name.name}".split("."))
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                yield (f"{node.module}.{name.name}" if is_module else str(node.module)), node


def test_every_file_stands_in_a_layer() -> None:
    assert {part(path) for path in sources()} == set(LEVEL)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = part(path)
    wrong = []
    for module, node in imports(path):
        names = module.split(".")
        if names[0] != "goodfit":
            if names[0] in NOT_IN.get(here, ()):
                wrong.append(f"line {node.lineno}: {module} is too heavy, or no business of {here}")
            continue
        there = names[1] if len(names) > 1 else "__init__"
        if LEVEL[there] > LEVEL[here] or there not in MAY_IMPORT.get(here, {there}):
            wrong.append(f"line {node.lineno}: {here} may not import {there}")
    assert wrong == []


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_hides_in_a_function(path: Path) -> None:
    if part(path) in ("cli", "study_cli"):
        pytest.skip("the command line imports what a command needs, when it needs it")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    hidden = [n.lineno for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert hidden == []


def test_files_do_not_import_each_other_in_a_circle() -> None:
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): {
            module for module, _ in imports(path) if module.startswith("goodfit.")
        }
        for path in sources()
        if part(path) != "__init__"
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done and name in graph:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


HEAVY = (
    "pandas",
    "sklearn",
    "matplotlib",
    "scipy",
    "torchvision",
    "pyarrow",
    "rich",
    "typer",
    "timm",
    "transformers",
    "optuna",
    "sqlalchemy",
)


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name.split(".")[0] for name in done.stdout.rsplit("\n", 2)[-2].split()}


def test_import_goodfit_loads_nothing_heavy() -> None:
    assert loaded("import goodfit").isdisjoint({*HEAVY, "torch", "numpy", "pydantic"})


def test_help_loads_nothing_heavy_but_the_parser() -> None:
    code = "import sys\nsys.argv = ['goodfit', '--help']\nfrom goodfit.cli import main\nmain()"
    assert loaded(code).isdisjoint({*HEAVY, "torch", "numpy", "pydantic"} - {"typer", "rich"})


def test_techniques_and_models_load_without_the_libraries_for_tables_and_pictures() -> None:
    heavy = {*HEAVY} - {"torchvision"}
    assert loaded("import goodfit.recipe, goodfit.rules, goodfit.probes.before_training").isdisjoint(heavy)


def test_the_public_names_are_these() -> None:
    assert goodfit.__all__ == [
        "Batch", "DataError", "Ensemble", "Finding", "GoodfitError", "InputSpec", "MissingExtra", "ModelError",
        "Moment", "Plan",
        "Recipe", "RecipeError", "Run", "RunError", "Task", "ablate", "cross_validate", "describe", "dry_run",
        "explain", "learning_curve", "lr_range", "range_test", "read", "train", "tune", "watch",
    ]  # fmt: skip
    for name in goodfit.__all__:
        assert getattr(goodfit, name) is not None
        assert name in dir(goodfit)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = goodfit.nothing


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """A module and its public classes, functions and methods."""
    yield "the module", tree
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from (
                    (f"{node.name}.{one.name}", one)
                    for one in node.body
                    if isinstance(one, ast.FunctionDef) and not one.name.startswith("_") and not _is_property(one)
                )


def _is_property(function: ast.FunctionDef) -> bool:
    """A property, or a method that overrides one whose docstring says it."""
    said = [ast.unparse(one) for one in function.decorator_list]
    return "override" in said or any("property" in one for one in said)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = [name for name, node in public(tree) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert bare == []


def texts() -> list[Path]:
    """Everything in the project that a person may read, but for this file, which names what must stay out."""
    kinds = {".py", ".md", ".toml", ".html", ".css", ".yml", ".txt", ""}
    inside = (p for p in ROOT.rglob("*") if p.is_file() and p.suffix in kinds)
    hidden = (".venv", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "runs", "build")
    mine = [
        p for p in inside
        if not any(folder in hidden or folder.endswith(".egg-info") for folder in p.relative_to(ROOT).parts)
    ]  # fmt: skip
    return [p for p in mine if p != Path(__file__)]


FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(work|tmp|root|home/\w+)(/|\b)",
    "a host of packages": r"pypi\.org|pythonhosted|artifactory|nexus",
    "an assistant": r"\b(claude|anthropic|chatgpt|copilot|openai)\b",
    "an em dash": "\u2014",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_words_that_stay_out(what: str) -> None:
    found = []
    for path in texts():
        try:
            content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(content.split("\n"), 1):
            if re.search(FORBIDDEN[what], line, re.IGNORECASE):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_store_is_the_only_module_that_writes_files() -> None:
    writing = re.compile(
        r"\.(write_text|write_bytes|to_csv|to_parquet|savefig|touch)\(|open\([^)]*[\"'][wax]b?[\"']|torch\.save"
    )
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        if part(path) not in ("store", "disk", "foreign")  # the last writes into a temporary folder alone
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if writing.search(line) and "BytesIO" not in line and "buffer" not in line
    ]
    assert wrong == []


def test_nothing_is_pickled() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources()
        if re.search(r"\b(pickle|joblib|torch\.load|torch\.save)\b", path.read_text(encoding="utf-8"))
        and {m.split(".")[0] for m, _ in imports(path)} & {"pickle", "joblib", "dill", "cloudpickle"}
    ]
    assert wrong == []
