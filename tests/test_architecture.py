"""The plan of the house: no import cycle, imports go one way, short modules and functions, few entries at a level."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tasks", "flows", "deploy", "local_stack", "scripts", "api", "data", "bench")
MODULE_LINES, FUNCTION_LINES, ENTRIES = 300, 30, 20
_SKIPPED = {"node_modules", "__pycache__", "local"}
pytestmark = pytest.mark.xdist_group("architecture")  # one process reads all modules, not each


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of ours but the tests, by its dotted name."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    skipped = {*_SKIPPED, "tests"}
    ours = [path for path in paths if not skipped & set(path.relative_to(ROOT).parts[:-1])]
    return {_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in ours}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(name: str) -> set[str]:
    """Modules of ours that a module imports while it is imported itself; a package stands for its `__init__`."""
    found: set[str] = set()
    for node in _at_import(modules()[name].body):
        if isinstance(node, ast.Import):
            found |= {_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {_module(f"{node.module}.{alias.name}") for alias in node.names}
    return {module for module in found if module and module != name}


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _at_import(getattr(node, inner, []))


def _module(name: str) -> str:
    """The module of ours that a dotted name lies in; empty for others."""
    parts = name.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((candidate for candidate in names if candidate in modules()), "")


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: imported(name) for name in modules()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("package", "never"),
    [
        ("tasks", ("flows", "deploy", "scripts", "api", "local_stack", "data", "bench")),
        ("tasks.contracts", ("tasks.",)),
        ("flows", ("deploy", "scripts", "api", "local_stack", "data", "bench")),
        ("deploy", ("scripts", "data", "bench")),
    ],
)  # fmt: skip
def test_imports_go_one_way(package: str, never: tuple[str, ...]) -> None:
    wrong = [
        f"{name} imports {module}"
        for name in modules()
        if name == package or name.startswith(f"{package}.")
        for module in imported(name)
        if module.startswith(never) and not module.startswith(package)
    ]
    assert wrong == []


def test_the_reading_kit_loads_no_driver_of_postgres() -> None:
    """A notebook waits for its import, and the driver takes as long as all else in it."""
    loaded, left = set[str](), {"tasks.read"}
    while left := left - loaded:
        loaded |= left
        left = set().union(*map(imported, left))
    assert "tasks.platform.bucket" in loaded
    assert "tasks.platform.postgres" not in loaded


def test_no_module_is_longer_than_one_can_read_in_a_sitting() -> None:
    folders = (*PACKAGES, "tests")
    paths = [p for folder in folders for p in (ROOT / folder).rglob("*.py") if not _SKIPPED & set(p.parts)]
    lines = {path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n") for path in paths}
    assert {str(path): count for path, count in lines.items() if count > MODULE_LINES} == {}


def test_no_long_function_without_its_reason() -> None:
    """A function with a body over 30 lines gives the reason in its docstring, in a sentence that begins with *Long*."""
    tests = {str(path): ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py")}
    long = [
        f"{name}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for name, tree in (*modules().items(), *tests.items())
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and _own_lines(node) > FUNCTION_LINES
        and not re.search(r"\bLong\b", ast.get_docstring(node) or "")
    ]
    assert long == []


def _own_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its docstring and without its arguments."""
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    return (node.end_lineno or 0) - first.lineno + 1


@pytest.mark.parametrize("folder", ["tasks", "flows", "deploy", "scripts"])
def test_a_folder_can_be_taken_in_at_a_glance(folder: str) -> None:
    entries = [entry.name for entry in (ROOT / folder).iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= ENTRIES, entries


def test_the_architecture_page_names_every_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [p.name for p in (ROOT / "tasks").iterdir() if (p / "__init__.py").exists()]
    assert [name for name in packages if f"`tasks/{name}`" not in page] == []
    named = re.findall(r"`((?:tasks|flows|deploy|tests|supabase)/[\w/.]+)`", page)
    assert [path for path in named if "<" not in path and not (ROOT / path).exists()] == []


def test_arrow_takes_memory_from_the_system() -> None:
    """With its own allocator a night takes a third more memory."""
    say = "import flows, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    environment = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    done = subprocess.run([sys.executable, "-c", say], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "system"
