"""Uses tfdet on drawn shapes and fails when that imports a package that requirements-lean.txt does without.

    python tools/lean_run.py FOLDER [train|all]

`train` draws a data set into FOLDER and trains a few steps; `all` (default) also evaluates, exports and predicts.
tools/check_lean_install.sh calls it in an environment of its own, the tests in the one they run in.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements-lean.txt"
BRINGS_TOO_MUCH = "tf-models-official"
SMALL = ["--gin_param=Trainer.steps = 3", "--gin_param=TrainInput.images_per_replica = 2"]


def canonical(name: str) -> str:
    """The name of a distribution as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def with_requirements(names: list[str]) -> set[str]:
    """These distributions and all they need, as far as they are installed."""
    found: set[str] = set()
    waiting = [canonical(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting += [canonical(requirement_name(line)) for line in lines if "extra ==" not in line]
    return found


def requirement_name(line: str) -> str:
    """`tensorflow` of `tensorflow~=2.20.0`."""
    return re.match(r"[A-Za-z0-9._-]+", line).group()


def listed() -> list[str]:
    """The distributions that requirements-lean.txt names."""
    lines = (line.strip() for line in REQUIREMENTS.read_text().splitlines())
    return [requirement_name(line) for line in lines if line and not line.startswith("#")]


def top_modules() -> set[str]:
    """Names without a dot in `sys.modules`."""
    return {name.partition(".")[0] for name in list(sys.modules)}


def imported_too_much(before: set[str]) -> list[str]:
    """Top modules in `sys.modules` that only tf-models-official brings, and its own but orbit.

    Args:
        before: those that are no fault of tfdet's.
    """
    unwanted = with_requirements([BRINGS_TOO_MUCH]) - with_requirements(listed())
    owners = metadata.packages_distributions()
    tops = top_modules() - before - {"orbit"}
    return sorted(top for top in tops if any(canonical(owner) in unwanted for owner in owners.get(top, ())))


def main(folder: str, what: str = "all") -> None:
    """Runs the commands in this process, one after the other."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401

    before = top_modules()  # TensorFlow and Keras take along what they find: pandas, scikit-learn, Google's API client
    from tfdet.commands import main as tfdet

    def run(*arguments: str) -> None:
        code = tfdet(list(arguments))
        if code:
            sys.exit(f"tfdet {' '.join(arguments)}: exit code {code}")

    run("make_shapes", f"--output={folder}/data", "--train_images=8", "--val_images=4", "--size=64x80", "--overwrite")
    run(
        "train", "--gin_file=demo_shapes", f"--train_data={folder}/data/train", f"--eval_data={folder}/data/val",
        f"--model_dir={folder}/run", *SMALL,
    )  # fmt: skip
    if what == "all":
        run("evaluate", f"--model_dir={folder}/run", f"--eval_data={folder}/data/val")
        run("export", f"--model_dir={folder}/run", f"--output={folder}/exported")
        run("predict", f"--saved_model={folder}/exported", f"--output={folder}/pictures", f"{folder}/data/pictures")
    assert "orbit" in sys.modules, "training went on without orbit: this check looks at nothing"
    if too_much := imported_too_much(before):
        sys.exit(f"imported although requirements-lean.txt does without: {', '.join(too_much)}")
    print(f"imported nothing that only {BRINGS_TOO_MUCH} brings, but orbit")


if __name__ == "__main__":
    main(*sys.argv[1:])
