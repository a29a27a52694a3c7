"""What README and docs name is there: files, gin files, links, commands with their flags, parameters, Python names."""

import argparse
import ast
import importlib
import inspect
import re
import shlex
import textwrap
from pathlib import Path

import pytest

from tfdet import config
from tfdet.commands import command_names
from tfdet.commands.flags import add_verbose
from tfdet.config.files import find_gin_file, gin_configs_folder
from tfdet.config.registration import known_names, matching_selectors, parameters

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Names that are examples of something of the reader's own, or of something that is refused. NAME in a path is any name.
OWN_GIN_FILES = {"config.gin", "operative_config.gin", "my_row.gin", "my_overlay.gin", "faster_r50_fpn.gin"}
OWN_GIN_FILES |= {"anchors.gin"}
# Flags of other programs: Bazel, gpu_check/run.py, srun.
OTHERS = {"--config", "--cpu", "--gpus", "--ntasks", "--signal"}
WRONG_PARAMETERS = {"ResNetV.depth", "ResNetV1.dept", "Name.parameter"}
REFERENCE_ROW = "mask_r50v1_fpn"  # stands for the configuration of a run
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
FOLDERS = "tfdet|tests|tools|scripts|docs|custom_ops|gin_configs|third_party|bazel"


def page_id(page: Path) -> str:
    return page.name


def code_blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of fenced blocks and of blocks that are indented by four blanks."""
    indented = re.findall(r"(?:^ {4,}\S.*\n(?:^ *\n(?=^ {4}))?)+", FENCED.sub("", text) + "\n", re.MULTILINE)
    return [*FENCED.findall(text), *(("", block) for block in indented)]


def inline_code(text: str) -> list[str]:
    """The contents of `...` outside of blocks, line breaks as blanks."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", text))]


def shell_lines(code: str) -> list[str]:
    """The commands of a block, continued lines joined."""
    return [" ".join(line.split()) for line in re.sub(r"\\\n", " ", code).splitlines()]


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"tfdet {command}", allow_abbrev=False)
    importlib.import_module(f"tfdet.commands.{command}").add_arguments(parser)
    add_verbose(parser)
    return parser


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    flags = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                flags |= flags_of(sub)
    return flags


def commands_of(text: str) -> list[list[str]]:
    """The words of every `tfdet COMMAND ...` and `python scripts/COMMAND.py ...` of the blocks."""
    found = []
    for language, code in code_blocks(text):
        if language == "python":
            continue
        for line in shell_lines(code):
            match = re.match(r"(?:tfdet|python scripts/(\w+)\.py|python -m tfdet) (.*)", line)
            if match and not re.search(r"\[|\.\.\.( |$)|COMMAND", line.partition(" #")[0].replace("[@]", "")):
                words = shlex.split(match[2], comments=True)
                script = match[1] and (match[1] if match[1] in command_names() else f"scripts/{match[1]}.py")
                found.append([script, *words] if script else words)
    return [words for words in found if words]


@pytest.fixture(scope="module", autouse=True)
def registered():
    config.register_all()


def test_the_tests_see_the_pages():
    text = (ROOT / "README.md").read_text()
    assert any(words[0] == "export" and "--model_dir=runs/own_data_cpu" in words for words in commands_of(text))
    assert sum(len(commands_of(page.read_text())) for page in PAGES) > 40
    assert any(language == "python" for language, _ in code_blocks(text)) and "--val_fraction" not in inline_code(text)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=page_id)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", FENCED.sub("", page.read_text()))
    local = [target for target in targets if not re.match(r"\w+:", target)]
    assert not [target for target in local if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_gin_files_exist(page):
    missing = []
    for name in set(re.findall(r"[\w*/.]+\.gin\b", page.read_text())):
        bare = re.sub(r"^(\.\./)*(gin_configs/)?", "", name.replace("NAME", "*"))
        if Path(bare).name in OWN_GIN_FILES or bare.startswith("..."):
            continue
        folders = (gin_configs_folder(), ROOT)
        if not any(next(folder.glob(pattern), None) for folder in folders for pattern in (bare, f"*/{bare}")):
            missing.append(name)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_of_the_project_exist(page):
    text = page.read_text()
    spans = [*inline_code(text), *(code for language, code in code_blocks(text) if language != "python")]
    named = {
        path.rstrip(".")
        for span in spans
        for path in re.findall(rf"(?<![\w/.=-])(?:\.\./)*((?:{FOLDERS})/[\w./*-]+)", span)
    }
    named |= {module.replace(".", "/") + ".py" for module in re.findall(r"python -m (tools\.[\w.]+)", text)}
    built = {"tfdet/ops/lib/_tfdet_ops.so", "tfdet/gin_configs/", "scripts/COMMAND.py", "tfdet/commands/X.py"}
    patterns = {path: path.rstrip("/").replace("NAME", "*") for path in named - built}
    assert not [path for path, pattern in patterns.items() if not next(ROOT.glob(pattern), None)]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_and_their_values_are_taken(page, capsys):
    """Every command of a block is parsed as a whole, and its configuration with it."""
    refused = []
    for command, *words in commands_of(page.read_text()):
        if command.startswith("-"):
            continue
        if command not in command_names():
            refused += [] if (ROOT / command).is_file() else [f"no command {command}"]
            continue
        words = [word for word in words if not word.startswith("${")]  # lists of flags that a line before has set
        try:
            arguments = parser_of(command).parse_args(words)
        except SystemExit as exit:
            if exit.code:
                refused.append(f"tfdet {command} {shlex.join(words)}: {capsys.readouterr().err.splitlines()[-1]}")
            continue
        files = [file for file in getattr(arguments, "gin_file", None) or [] if Path(file).name not in OWN_GIN_FILES]
        params = getattr(arguments, "gin_param", None) or []
        files = list(map(str, map(find_gin_file, files))) or [REFERENCE_ROW]
        if command != "config":
            config.parse(files, params)
    assert not refused


def test_every_command_has_a_line():
    text = (ROOT / "docs" / "commands.md").read_text()
    assert [name for name in command_names() if f"| `tfdet {name}` |" in text] == command_names()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_flags_in_sentences_exist(page):
    everywhere = set().union(*(flags_of(parser_of(command)) for command in command_names()))
    missing = []
    for span in inline_code(page.read_text()):
        command = re.match(r"tfdet (\w+)", span)
        flags = set(re.findall(r"(?<![\w-])--[A-Za-z]\w*", span))
        if command and command[1] != "COMMAND":
            assert command[1] in command_names(), span
            missing += flags - flags_of(parser_of(command[1])) - {"--help"}
        elif span.startswith("--"):
            missing += flags - everywhere
    assert not [flag for flag in missing if flag not in OTHERS]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_parameters_in_sentences_exist(page):
    wrong = []
    for span in inline_code(page.read_text()):
        match = re.match(r"([A-Z]\w+)\.(\w+)(?=$| =| \()", span)
        if not match or match[0] in WRONG_PARAMETERS or f"{match[1]}.gin" in span:
            continue
        selectors = matching_selectors(match[1])
        if selectors and match[2] not in parameters(selectors[0]) and not hasattr(class_of(selectors[0]), match[2]):
            wrong.append(span)
        if not selectors and match[1] in dict.fromkeys(name.rpartition(".")[2] for name in known_names()):
            wrong.append(span)
    assert not wrong


def class_of(selector: str):
    return config.registration.constructor(selector).__globals__.get(selector.rpartition(".")[2])


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_names_exist(page):
    text = page.read_text()
    spans = [*inline_code(text), *(code for language, code in code_blocks(text) if language == "python")]
    names = {name for span in spans for name in re.findall(r"(?<![\w./-])tfdet(?:\.[A-Za-z_]\w*)+(?![\w/])", span)}
    assert not [name for name in names if not resolves(name)]


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_blocks_call_what_is_there(page):
    """Attributes and keywords of tfdet's functions and of models and results, which the pages call by fixed names."""
    import tfdet
    from tfdet.model import Model
    from tfdet.predict.found import Found

    owners = {"tfdet": tfdet, "model": Model, "found": Found}
    wrong = []
    for language, code in code_blocks(page.read_text()):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(code))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = getattr(node.func.value, "id", None)
                if owner not in owners:
                    continue
                function = getattr(owners[owner], node.func.attr, None)
                if function is None:
                    wrong.append(f"{owner}.{node.func.attr}")
                    continue
                known = inspect.signature(function).parameters
                if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
                    wrong += [f"{owner}.{node.func.attr}({k.arg}=)" for k in node.keywords if k.arg not in known]
    assert not wrong


def test_every_fault_that_is_listed_names_the_test_that_injects_it():
    rows = [line for line in (ROOT / "docs/reliability.md").read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| fault ")]
    assert len(rows) > 100
    for row in rows:
        column = row.rstrip("| ").rpartition(" | ")[2]
        files = re.findall(r"`([\w/]+\.py)[`:]", column)
        assert files, f"no test: {row}"
        text = "".join((ROOT / "tests" / file).read_text() for file in files)
        missing = [name for name in re.findall(r"\btest_\w+\b(?!\.py)", column) if f"def {name}(" not in text]
        assert not missing, f"{missing} are in none of {files}"
