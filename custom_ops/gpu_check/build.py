"""Builds the kernels, without TensorFlow, into one library for ctypes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CUSTOM_OPS = Path(__file__).resolve().parent.parent
ROOT = CUSTOM_OPS.parent
# As in custom_ops/BUILD: what decides (an IoU, the place of a sample) must round alike on CPU and GPU.
HOST_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fPIC"]


def build(folder: Path, gpu: bool, arch: str = "native") -> Path:
    """Compiles every kernel and its C interface.

    Args:
        folder: where objects and library go; made when absent.
        gpu: with the CUDA kernels (needs nvcc), else the CPU kernels alone (needs g++).
        arch: what nvcc's -arch takes: "native" for the GPU of this machine, or such as "sm_90".

    Returns:
        The library.

    Raises:
        SystemExit: the compiler is missing or fails; its own message is printed.
    """
    compiler = "nvcc" if gpu else "g++"
    if shutil.which(compiler) is None:
        raise SystemExit(f"gpu_check: {compiler} is not on PATH")
    folder.mkdir(parents=True, exist_ok=True)
    sources = [*sorted(CUSTOM_OPS.glob("kernels/*_cpu.cc")), *sorted(CUSTOM_OPS.glob("c_api/*.cc"))]
    if gpu:
        sources += sorted(CUSTOM_OPS.glob("kernels/*_cuda.cu"))
    objects = [folder / f"{source.stem}_{source.parent.name}.o" for source in sources]
    running = [
        subprocess.Popen(_compile(source, target, gpu, arch), cwd=ROOT) for source, target in zip(sources, objects)
    ]
    if any([process.wait() for process in running]):
        raise SystemExit("gpu_check: a kernel does not compile, see above")
    library = folder / "libtfdet_kernels.so"
    link = ["nvcc", f"-arch={arch}"] if gpu else ["g++"]
    pthread = ["-Xcompiler", "-pthread"] if gpu else ["-pthread"]
    if subprocess.run([*link, "-shared", *map(str, objects), *pthread, "-o", str(library)], cwd=ROOT).returncode:
        raise SystemExit("gpu_check: the kernels do not link, see above")
    return library


def _compile(source: Path, target: Path, gpu: bool, arch: str) -> list[str]:
    common = ["-std=c++17", "-I.", "-c", str(source), "-o", str(target)]
    if source.suffix == ".cu":
        return ["nvcc", "-O3", "-fmad=false", f"-arch={arch}", "-Xcompiler", "-fPIC", *common]
    return ["g++", *HOST_FLAGS, *(["-DTFDET_CUDA=1"] if gpu else []), *common]
