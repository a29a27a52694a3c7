"""Programs of the package that run in another Python, with a framework that is not installed beside TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tfdet.errors import UserError


def run_other_python(variable: str, program: Path, arguments: Sequence[str], what: str, packages: str) -> str:
    """Runs a program in the Python that a variable of the environment names, else in this one.

    Args:
        variable: of the environment, such as TFDET_TORCH_PYTHON.
        program: the file.
        arguments: of the program.
        what: it runs, for the message.
        packages: that it needs, as a person installs them.

    Returns:
        What it wrote to its standard output.

    Raises:
        UserError: it did not come to its end.
    """
    python = os.environ.get(variable) or sys.executable
    try:
        done = subprocess.run([python, str(program), *arguments], check=False, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"{variable}: {python} does not run: {error}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1].strip()
        raise UserError(
            f"{program.name} does not run {what}: {said}. It needs {packages}; {variable} names the Python of another "
            "environment that has them"
        )
    return done.stdout
