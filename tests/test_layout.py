"""The layout of the package: which way imports go, how long files are, what is called what, what is documented."""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tfdet"

# From left to right; a module imports only from its own group's earlier members, its own package, and the left.
ORDER = [
    [
        "errors",
        "structures",
        "files",
        "text",
        "terminal",
        "strict_json",
        "arguments",
        "interrupts",
        "collector",
        "other_python",
        "native_stderr",
        "cluster",
        "fetch",
        "ops",
    ],
    ["config"],
    ["data"],
    ["layers", "backbones", "necks", "heads", "targets", "losses"],
    ["detectors"],
    ["weights"],
    ["training"],
    ["report"],
    ["predict"],
    ["evaluate"],
    ["export"],
    ["serve"],
    ["bench"],
    ["exported_model", "model", "run_start", "run", "run_report"],
    ["adapters"],
    ["commands"],
]
# Below a module's first line these are imported where they are used: each costs seconds, or is not needed by all.
LATE = {"official", "matplotlib", "pandas", "pycocotools", "orbit", "tf_keras"}
LATE_EXCEPT = {  # subclasses of orbit's; `train` alone needs them
    "tfdet/training/controller.py": {"orbit"},
    "tfdet/training/inner_loop.py": {"orbit"},
}
FORBIDDEN_NAMES = {"utils", "util", "common", "misc", "helpers", "helper"}
# Annotations alone: a console that the caller made.
TYPES_OF_RICH = {
    "tfdet/model.py",
    "tfdet/run.py",
    "tfdet/run_start.py",
    "tfdet/run_report.py",
    "tfdet/exported_model.py",
    "tfdet/data/conversion.py",
    "tfdet/report/browse/run.py",
}
MAX_LINES = 400
# Documented by Keras; a docstring of one's own is wanted only where there is more to say.
KERAS_METHODS = {"build", "call", "get_config", "compute_output_shape"}

MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in MODULES}
TOOLS = sorted((ROOT / "tools").rglob("*.py"))
PYTHON_FILES = [
    *MODULES,
    *TOOLS,
    *(path for name in ("scripts", "tests") for path in sorted((ROOT / name).rglob("*.py"))),
]


def relative(path: Path) -> str:
    """A path from the project's root."""
    return str(path.relative_to(ROOT))


def package_of(path: Path) -> str:
    """`heads` for tfdet/heads/rpn.py, `errors` for tfdet/errors.py, an empty text for tfdet/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts[0].startswith("__") else parts[0]


def imports_of(tree: ast.Module, everywhere: bool) -> list[tuple[str, int]]:
    """Names of the imported modules with their lines: of the whole file, or of what importing the file runs."""
    found = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        if everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def inherits_docs(path: Path, class_name: str, name: str) -> bool:
    """Whether a method without a docstring overrides one that has it."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return any(getattr(getattr(base, name, None), "__doc__", None) for base in getattr(module, class_name).__mro__[1:])


def rank(package: str) -> tuple[int, int]:
    """The place of a package in ORDER."""
    for group, members in enumerate(ORDER):
        if package in members:
            return group, members.index(package)
    raise AssertionError(f"tfdet.{package} has no place in ORDER")


def allowed(importer: str, imported: str) -> bool:
    """Whether one package may import another."""
    if imported == importer or imported in ("", "__version__"):
        return True
    return rank(imported) < rank(importer)


def test_only_one_module_writes_to_a_terminal():
    """Names with escape codes, `[red]` or `:smile:` in them are text on `terminal.Console`, which is the only one."""
    for path in MODULES:
        if relative(path) == "tfdet/terminal.py":
            continue
        assert "rich.markup" not in path.read_text(), f"{relative(path)}: there is no markup to escape; give a style"
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called != "print" or any(word.arg == "file" for word in node.keywords), (
                    f"{relative(path)}: print"
                )
                assert called != "rich.console.Console", relative(path)
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                assert relative(path) in TYPES_OF_RICH, f"{relative(path)}: use tfdet.terminal.Console"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                colour = re.search(r"\[/?(bold |dim )?(red|green|yellow)\]|\[/\]", node.value)
                assert not colour, f"{relative(path)}:{node.lineno}: {colour[0]} is text, give a style"


def test_the_rule_itself():
    assert allowed("heads", "ops") and allowed("heads", "layers") and allowed("commands", "training")
    assert not allowed("ops", "heads") and not allowed("layers", "heads") and not allowed("training", "commands")
    tree = ast.parse("import a\nclass B:\n    import c\n    def f(self):\n        from d import e\n")
    assert sorted(name for name, _ in imports_of(tree, everywhere=True)) == ["a", "c", "d.e"]
    assert sorted(name for name, _ in imports_of(tree, everywhere=False)) == ["a", "c"]


def all_imports() -> dict[str, set[str]]:
    """The modules that each module imports, anywhere in the file; the root package is `tfdet`."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    graph = {}
    for module, path in names.items():
        found = set()
        for name, _ in imports_of(TREES[path], everywhere=True):
            imported = name if name in names else name.rpartition(".")[0]  # else a name of a module
            if imported in names:
                found.add(imported)
        graph[module] = found - {module}
    return graph


def circle_of(graph: dict[str, set[str]]) -> list[str]:
    """Modules each of which is imported by the one before, the first again at the end; [] where there is no circle."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]
    return []


def test_no_module_imports_itself_in_a_circle():
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert len(circle_of({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == 4
    graph = all_imports()
    assert "tfdet.ops.boxes" in graph["tfdet.ops.nms"]
    assert "tfdet.weights.load" in graph["tfdet.weights"]  # a package is its __init__.py too
    assert "tfdet.model" in graph["tfdet"] and "tfdet" in graph["tfdet.commands"]
    assert " -> ".join(circle_of(graph)) == ""


def test_imports_go_from_right_to_left():
    wrong = []
    for path in MODULES:
        importer = package_of(path)
        for name, line in imports_of(TREES[path], everywhere=True) if importer else ():
            parts = name.split(".")
            if parts[0] == "tfdet" and len(parts) > 1 and not allowed(importer, parts[1]):
                wrong.append(f"{relative(path)}:{line}: {importer} may not import {name}")
    assert not wrong


def test_heavy_packages_are_imported_where_they_are_used():
    wrong = []
    for path in MODULES:
        for name, line in imports_of(TREES[path], everywhere=False):
            if name.split(".")[0] in LATE - LATE_EXCEPT.get(relative(path), set()):
                wrong.append(f"{relative(path)}:{line}: import {name} inside the function")
        for name, line in imports_of(TREES[path], everywhere=True):
            if name.split(".")[0] == "tf_keras":
                wrong.append(f"{relative(path)}:{line}: Keras 3 is `import keras`")
    assert not wrong


def test_weight_formats_need_numpy_alone():
    """Of tfdet nothing but errors and the writing of files; what a format's own library reads is imported late."""
    wrong, ours = [], ("tfdet.errors.", "tfdet.files.", "tfdet.weights.formats.")
    modules = [path for path in MODULES if path.parent == PACKAGE / "weights" / "formats"]
    assert len(modules) > 8
    for path in modules:
        for name, line in imports_of(TREES[path], everywhere=True):
            if name.startswith("tfdet") and not f"{name}.".startswith(ours):
                wrong.append(f"{relative(path)}:{line}: {name}")
        for name, line in imports_of(TREES[path], everywhere=False):
            if name.split(".")[0] not in {"tfdet", "numpy", *sys.stdlib_module_names}:
                wrong.append(f"{relative(path)}:{line}: import {name} inside the function")
    assert not wrong


def test_files_are_short():
    lengths = {relative(path): len(path.read_text().splitlines()) for path in PYTHON_FILES}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_every_folder_is_a_package():
    """Without __init__.py a folder is neither installed by setup.py nor found by `register_all`."""
    assert not [relative(path) for path in {path.parent for path in MODULES} if not (path / "__init__.py").is_file()]


def test_names_say_what_is_in_a_file():
    wrong = [relative(path) for path in PYTHON_FILES if FORBIDDEN_NAMES & {path.stem, path.parent.name}]
    assert not wrong


def test_everything_public_is_documented():
    wrong = []
    for path in [*MODULES, *TOOLS]:
        tree = TREES.get(path) or ast.parse(path.read_text())
        if tree.body and not ast.get_docstring(tree):
            wrong.append(f"{relative(path)}: the module")
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        for owner in [tree, *classes]:
            for node in owner.body:
                if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    continue
                known_to_keras = owner is not tree and node.name in KERAS_METHODS
                if node.name.startswith("_") or known_to_keras or ast.get_docstring(node):
                    continue
                if not (isinstance(owner, ast.ClassDef) and owner.bases and inherits_docs(path, owner.name, node.name)):
                    wrong.append(f"{relative(path)}:{node.lineno}: {node.name}")
    assert not wrong


def test_bazel_files_are_starlark_and_their_globs_match():
    text = (ROOT / "BUILD").read_text()
    for file in ("BUILD", "WORKSPACE", "MODULE.bazel", "bazel/BUILD", "bazel/python.bzl", "custom_ops/BUILD"):
        ast.parse((ROOT / file).read_text())
    for file in (ROOT / "third_party").rglob("*.bzl"):
        ast.parse(file.read_text())
    patterns = [
        element.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "glob"
        for element in node.args[0].elts
    ]
    assert len(patterns) >= 3
    for pattern in patterns:
        assert next(ROOT.glob(pattern), None), f"BUILD: nothing matches {pattern}; Bazel 8 refuses an empty glob"


def test_kernels_include_neither_tensorflow_nor_eigen():
    """They compile on a GPU machine without TensorFlow; the glue in custom_ops/tf is the only part that knows it."""
    kernels = [*(ROOT / "custom_ops/kernels").iterdir(), *(ROOT / "custom_ops/c_api").iterdir()]
    assert len(kernels) >= 5
    for file in kernels:
        includes = [line for line in file.read_text().splitlines() if line.startswith("#include")]
        wrong = [line for line in includes if "tensorflow" in line.lower() or "eigen" in line.lower()]
        assert not wrong, f"{relative(file)}: {wrong}"


def test_versions_agree():
    version = next(line for line in (PACKAGE / "__init__.py").read_text().splitlines() if "__version__" in line)
    assert version.split('"')[1] in (ROOT / "MODULE.bazel").read_text()
