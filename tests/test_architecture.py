"""The house of `docs/explanation/architecture.md`, enforced: layers, sizes, names, and the words in them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import xrecon

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "xrecon"
MAX_LINES = 450
LAYERS = (
    ("errors",),
    ("environment", "config", "geometry", "resample", "jobs", "json_text", "compiled", "smoothing"),
    ("io",),
    ("volume", "radiograph", "segmentation"),
    ("projector", "warp"),
    ("anatomy",),
    ("phantoms",),
    ("planting",),
    ("films",),
    ("data",),
    ("records",),
    ("augmentation",),
    ("priors",),
    ("models",),
    ("training",),
    ("inference",),
    ("ptxseg",),
    ("quantify",),
    ("dicom_output",),
    ("preparation",),
    ("evaluation",),
    ("report",),
    ("cli", "__main__"),
)
"""From low to high. A part imports only its own layer and those before it."""
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
TORCH_FREE = {
    "errors",
    "environment",
    "config",
    "geometry",
    "resample",
    "jobs",
    "json_text",
    "compiled",
    "smoothing",
    "io",
    "volume",
    "radiograph",
    "segmentation",
    "cli",
}
"""Parts that must not load torch when they are imported (inside functions they may)."""

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted name, its line, and whether it happens when the importing file is loaded."""

    module: str
    line: int
    at_load: bool


def imports_of(source: str, module: str) -> Iterator[Import]:
    """Every import of the source text of `module`, those in functions and under TYPE_CHECKING included."""
    tree = ast.parse(source)
    deferred = {id(inner) for node in ast.walk(tree) if is_deferred(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module)
            # `from xrecon import simulate` is an import of the module where the lazy name lives.
            names = [home(alias.name) for alias in node.names] if base == "xrecon" else [base]
        else:
            continue
        for name in names:
            yield Import(name, node.lineno, id(node) not in deferred)


def is_deferred(node: ast.AST) -> bool:
    """Whether the imports below the node do not run on load: functions and `if TYPE_CHECKING`."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return True
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def absolute(node: ast.ImportFrom, module: str) -> str:
    if node.level == 0:
        return node.module or ""
    parent = module.split(".")[: -node.level]
    return ".".join([*parent, *filter(None, [node.module])])


def home(name: str) -> str:
    if name == "__version__":
        return "xrecon"
    return xrecon._HOME.get(name, f"xrecon.{name}")


def part_of(module: str) -> str | None:
    """`xrecon.io.nifti` -> `io`; None for the package itself and for everything that is not xrecon."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if top == "xrecon" else None


def module_name(path: Path) -> str:
    return ".".join(["xrecon", *path.relative_to(PACKAGE).with_suffix("").parts])


def upward_imports(source: str, module: str) -> list[str]:
    own = part_of(module)
    assert own in RANK, f"{module}: the part {own!r} is not in LAYERS; add it at its place"
    found = []
    for one in imports_of(source, module):
        other = part_of(one.module)
        if one.module == "xrecon" and "import xrecon" in source.splitlines()[one.line - 1].split("#")[0]:
            found.append(f"line {one.line}: import the module that is needed, not all of xrecon")
        elif other is not None and RANK.get(other, len(LAYERS)) > RANK[own]:
            found.append(f"line {one.line}: {own} imports {one.module}, which lies above it")
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_layers_import_only_downwards(path: Path) -> None:
    assert upward_imports(path.read_text(encoding="utf-8"), module_name(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_file_is_short_enough_to_find_things_in(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.name} has {lines} lines; a file holds one idea in at most {MAX_LINES}"


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(module_name(p)) in TORCH_FREE], ids=module_name)
def test_light_modules_do_not_load_torch(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    heavy = [
        one for one in imports_of(source, module_name(path)) if one.at_load and one.module.split(".")[0] == "torch"
    ]
    assert heavy == []


@pytest.mark.parametrize(
    ("module", "source", "bad"),
    [
        ("xrecon.io.nifti", "from xrecon.volume import Volume", 1),
        ("xrecon.io.nifti", "def f():\n    from xrecon.cli import app", 1),
        ("xrecon.io.nifti", "from xrecon import load_ct", 1),
        ("xrecon.io.nifti", "from ..volume import Volume", 1),
        ("xrecon.io.nifti", "import xrecon", 1),
        ("xrecon.io.nifti", "from xrecon.nowhere import x", 1),
        ("xrecon.io.nifti", "from . import raw\nfrom xrecon.errors import InputError\nimport numpy", 0),
        ("xrecon.environment", "from xrecon import __version__", 0),
        ("xrecon.volume", "from xrecon.io.nifti import write_nifti", 0),
        ("xrecon.cli.demo", "from xrecon import simulate", 0),
    ],
)
def test_the_check_itself_sees_upward_imports(module: str, source: str, bad: int) -> None:
    assert len(upward_imports(source, module)) == bad


def test_the_check_itself_tells_load_time_from_later() -> None:
    source = "import torch\ndef f():\n    import torch.nn\nif TYPE_CHECKING:\n    from torch import Tensor\n"
    assert [one.at_load for one in imports_of(source, "xrecon.volume")] == [True, False, False]


CLASSES = [
    (path, node.name)
    for path in MODULES
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
]
DIALECT = {"one", "found", "own", "wanted", "told", "drawn", "made"}
"""Participles and pronouns that say nothing as names: a name is the noun of what it holds."""


def test_no_class_name_means_two_things() -> None:
    names = Counter(name for _, name in CLASSES)
    twice = {
        name: [module_name(path) for path, other in CLASSES if other == name] for name, n in names.items() if n > 1
    }
    assert twice == {}


def test_no_file_name_means_three_things() -> None:
    # A command and a page of the report may have the name of what they run and show.
    names = Counter(path.name for path in MODULES if part_of(module_name(path)) not in ("cli", "report"))
    del names["__init__.py"]
    assert [name for name, count in names.items() if count > 2] == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=str)
def test_a_folder_holds_what_fits_one_look(folder: Path) -> None:
    limit = 24 if folder.name == "cli" else 17  # one file per command there
    assert len(list(folder.glob("*.py"))) <= limit


def bound_names(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every variable, parameter and function that the source binds; keys of files may say `made`."""
    tree = ast.parse(source)
    fields = {id(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    for node in ast.walk(tree):
        if id(node) in fields:
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name.strip("_")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_names_are_nouns_of_the_field(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert [f"line {line}: {name}" for line, name in bound_names(source) if name in DIALECT] == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_module_reaches_into_private_names_of_another(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    private = [
        f"line {node.lineno}: {alias.name} of {node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xrecon")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert private == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_documents_are_cited_that_a_reader_can_open(path: Path) -> None:
    cited = re.findall(r"\b(?:SPEC|DESIGN)\b[^\n]{0,20}", path.read_text(encoding="utf-8"))
    assert cited == []


def test_the_architecture_page_names_every_part() -> None:
    page = (PACKAGE.parent.parent / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert [part for part in RANK if f"`{part}`" not in page] == []


def test_the_files_that_the_architecture_page_names_exist() -> None:
    root = PACKAGE.parent.parent
    page = (root / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page))
    assert "inference/models.py" in names
    assert [name for name in sorted(names) if not ((PACKAGE / name).exists() or (root / name).exists())] == []
