#!/bin/sh
# Builds the custom ops with Bazel and puts the library where the package finds it.
#   tools/build_ops.sh [--cuda] [--output FILE]     (`make ops` and `make ops CUDA=1` call it)
# PYTHON_BIN_PATH: the Python whose TensorFlow they are built for (default python3); CUDA_HOME, TFDET_CUDA_ARCHS: see
# third_party/cuda/cuda_configure.bzl. The library is checked by loading it, then moved into place in one step.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
output=$root/tfdet/ops/lib/_tfdet_ops.so
config=
while [ $# -gt 0 ]; do
  case $1 in
    --cuda) config=--config=cuda ;;
    --output) output=$2; shift ;;
    *) echo "build_ops.sh: unknown argument $1" >&2; exit 2 ;;
  esac
  shift
done
: "${PYTHON_BIN_PATH:=$(command -v python3)}"
export PYTHON_BIN_PATH

for tool in bazel g++; do
  command -v $tool >/dev/null || {
    echo "custom ops: $tool is not installed. Debian, Ubuntu:" \
      "sudo apt install g++ bazel-bootstrap bazel-rules-java bazel-rules-proto bazel-platforms" >&2
    exit 2
  }
done

bazel build $config //custom_ops:_tfdet_ops.so

mkdir -p "$(dirname "$output")"
# TensorFlow opens libraries by their name's ending.
temporary=$(dirname "$output")/.new$$.so
trap 'rm -f "$temporary"' EXIT
cp bazel-bin/custom_ops/_tfdet_ops.so "$temporary"
chmod 644 "$temporary"
# Size and digest go behind it, so that a copy cut short is known before it is loaded.
if [ -n "$config" ] && nm -D --undefined-only "$temporary" | grep -i ' cuda\|__cuda'; then
  echo "custom ops: the library needs the CUDA symbols above from elsewhere; the static runtime was not linked in" >&2
  exit 1
fi
# A library without GPU kernels is refused where TensorFlow sees a GPU: that is for the run to say, not for the build.
CUDA_VISIBLE_DEVICES=-1 TF_CPP_MIN_LOG_LEVEL=3 TFDET_OPS=native TFDET_OPS_LIBRARY=$temporary \
  "$PYTHON_BIN_PATH" -c "from tfdet.ops import library_file, native; library_file.seal('$temporary'); i = native.state().info; print(
    f'custom ops for TensorFlow {i.tensorflow}, ' + (f'CUDA {i.cuda} (sm {chr(44).join(i.archs)})' if i.cuda else 'CPU alone'))"
mv "$temporary" "$output"
echo "installed: $output"
