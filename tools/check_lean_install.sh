#!/bin/bash
# Installs a wheel of this checkout by requirements-lean.txt into a fresh environment, then trains, evaluates, exports
# and predicts there, and fails where anything is imported that tf-models-official brings, but orbit.
#   tools/check_lean_install.sh [FOLDER]
# FOLDER holds the environment (2.3 GB) and what the run writes; default: a folder of $TMPDIR that is removed at the end.
# PYTHON: the interpreter, default python3.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -gt 0 ]; then
  mkdir -p "$1"
  folder=$(cd "$1" && pwd)
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
export PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 CUDA_VISIBLE_DEVICES=-1

"${PYTHON:-python3}" -m venv --clear "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --quiet "$@"; }

pip install --upgrade pip
# The wheel is built from a copy, which leaves no build folder in the checkout.
rm -rf "$folder/source" "$folder/wheel" "$folder/run"
mkdir "$folder/source"
tar -C "$root" --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./bazel-* -cf - . | tar -C "$folder/source" -xf -
pip wheel --no-deps --wheel-dir "$folder/wheel" "$folder/source"

pip install -r "$root/requirements-lean.txt"
pip install --no-deps "tf-models-official~=2.20.0" "$folder"/wheel/tfdet-*.whl
echo "installed: $("$folder/venv/bin/python" -m pip list --format=freeze | wc -l) packages," \
  "$(du -sh "$folder/venv" | cut -f1)"

cd "$folder" # not the checkout: the installed package is what is meant
"$folder/venv/bin/python" "$root/tools/lean_run.py" "$folder/run"
"$folder/venv/bin/tfdet" --version
