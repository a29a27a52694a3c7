"""What training imports: of tf-models-official orbit alone, so that `requirements-lean.txt` is enough."""

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAN_RUN = ROOT / "tools" / "lean_run.py"


def lean_run():
    spec = importlib.util.spec_from_file_location("lean_run", LEAN_RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_imports_nothing_that_only_tf_models_official_brings(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(LEAN_RUN), str(tmp_path), "train"],
        capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "imported nothing that only tf-models-official brings, but orbit" in done.stdout


def test_the_check_finds_what_it_looks_for(monkeypatch):
    run = lean_run()
    for name in ("official", "tensorflow_datasets", "kaggle", "tensorflow_text", "sentencepiece"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = run.top_modules()
    assert run.imported_too_much(before) == []
    for name in ("official", "official.vision", "tensorflow_datasets", "kaggle", "orbit", "rich"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert run.imported_too_much(before) == ["kaggle", "official", "tensorflow_datasets"]


def test_the_lean_list_agrees_with_setup_py():
    """Each line is one of setup.py's, but for tf-keras, which orbit imports."""
    setup = (ROOT / "setup.py").read_text()
    lines = [line for line in (ROOT / "requirements-lean.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) >= 5
    assert [line for line in lines if f'"{line}"' not in setup] == ["tf-keras~=2.20.0"]
