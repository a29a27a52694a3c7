"""Programs of the package that run in another Python, with a framework that is not installed beside TensorFlow."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
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
    with OtherProgram(variable, program, arguments, what, packages) as running:
        return running.finish()


class OtherProgram:
    """A program of the package that runs in another Python and can be asked for one thing after the other.

    Used as a context, at whose end the program ends. Args: as of `run_other_python`.

    Raises:
        UserError: the other Python does not start; and, of all methods, the program did not come to its end.
    """

    def __init__(self, variable: str, program: Path, arguments: Sequence[str], what: str, packages: str):
        self._variable, self._program, self._what, self._packages = variable, program, what, packages
        python = os.environ.get(variable) or sys.executable
        # A file takes what it says about errors: nobody reads a second pipe while the first is read line by line.
        self._errors = tempfile.TemporaryFile()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors, "text": True}
        try:
            self._process = subprocess.Popen([python, str(program), *arguments], **pipes)
        except OSError as error:
            self._errors.close()
            raise UserError(f"{variable}: {python} does not run: {error}") from error

    def __enter__(self) -> OtherProgram:
        return self

    def __exit__(self, *_) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._errors.close()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not sent yet to a program that has ended
                pipe.close()

    def answer(self, question: str | None = None) -> str:
        """The next line that the program writes to its standard output, after a line that it is given."""
        if question is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended; why, is said below
                print(question, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise self._failed()
        return line

    def finish(self) -> str:
        """Waits for the program's end. Returns what it wrote to its standard output."""
        said, _ = self._process.communicate()
        if self._process.returncode:
            raise self._failed()
        return said

    def _failed(self) -> UserError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = (lines or [f"it ended with exit code {code}"])[-1].strip()
        return UserError(
            f"{self._program.name} does not run {self._what}: {said}. It needs {self._packages}; {self._variable} "
            "names the Python of another environment that has them"
        )
