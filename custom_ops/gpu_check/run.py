"""Checks and times the CUDA kernels on a machine with a GPU, nvcc, PyTorch and torchvision; TensorFlow is not needed.

    python custom_ops/gpu_check/run.py --output docs/gpu_kernels.md

Builds the kernels for the GPU that is there, compares every one with the CPU kernel and with torchvision's operators,
times them at the shapes of training in float32 and float16, and measures the memory's bandwidth in the same run.
Exit code 1 when a comparison fails. `--cpu` builds and compares the CPU kernels alone, on any machine. Under a memory
checker, one kernel at a time (a fault ends the process):

    compute-sanitizer --tool=memcheck python custom_ops/gpu_check/run.py --kernels nms --no_times
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from build import ROOT, build

KERNELS = ("roi_align", "deform_conv", "nms", "proposals", "match_boxes")


def main() -> int:
    """Parses the flags and runs; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="the CPU kernels alone: no GPU and no nvcc needed")
    parser.add_argument("--arch", default="native", help='for nvcc, such as sm_90 (default: "native")')
    parser.add_argument("--build_dir", type=Path, default=ROOT / "build/gpu_check", help="where objects go")
    parser.add_argument("--output", type=Path, help="also write the tables there, as markdown")
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=KERNELS, help="compare these (default: all)")
    parser.add_argument("--no_times", action="store_true", help="compare only")
    parser.add_argument("--build_only", action="store_true", help="build the library and end; PyTorch is not needed")
    args = parser.parse_args()
    if args.build_only:
        print(build(args.build_dir, not args.cpu, args.arch))
        return 0

    import torch
    import torchvision

    if not args.cpu and not torch.cuda.is_available():
        raise SystemExit("gpu_check: PyTorch sees no GPU. On a machine without one: --cpu")
    library = build(args.build_dir, not args.cpu, args.arch)

    import checks
    from kernels import Kernels

    kernels = Kernels(library)
    device = "cpu" if args.cpu else "cuda"
    found = list(checks.run(kernels, device, args.kernels))
    failed = [check for check in found if not check.passed]
    where = "the CPU" if args.cpu else torch.cuda.get_device_name()
    command = "python custom_ops/gpu_check/run.py" + (" --cpu" if args.cpu else "")
    lines = [
        "# The kernels on a GPU" if not args.cpu else "# The kernels on a CPU",
        "",
        f"Written by `{command}` on {datetime.date.today()}: {where}, PyTorch {torch.__version__}, torchvision "
        f"{torchvision.__version__}.",
        "",
        f"## Comparisons: {len(found) - len(failed)} of {len(found)} passed",
        "",
        "Largest difference over the largest absolute value of the reference, or the share of rows that differ.",
        "",
        *_table(
            ("kernel", "case", "against", "difference", "tolerance", ""),
            [
                (c.kernel, c.case, c.against, f"{c.difference:.1e}", f"{c.tolerance:.0e}", "" if c.passed else "FAILED")
                for c in found
            ],
        ),
    ]
    if not args.cpu and not args.no_times:
        lines += _timings(kernels)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.output:
        temporary = args.output.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(args.output)
    return 1 if failed else 0


def _timings(kernels) -> list[str]:
    import timing

    bandwidth = timing.memory_bandwidth()
    rows = []
    for entry in timing.run(kernels):
        share = f"{entry.bandwidth():.0f} ({entry.bandwidth() / bandwidth:.0%})"
        peer = "-" if entry.peer is None else f"{entry.peer:.3f}"
        speed = "-" if entry.peer is None else f"{entry.peer / entry.milliseconds:.1f}x"
        rows.append((entry.kernel, entry.shape, entry.dtype, f"{entry.milliseconds:.3f}", peer, speed, share))
    return [
        "",
        "## Times",
        "",
        f"Median of {timing.REPEATS} runs after {timing.WARM_UP}, in milliseconds, by CUDA events. GB/s counts the",
        f"bytes that have to move once; a copy of 1 GiB moved {bandwidth:.0f} GB/s in the same run. torchvision pools",
        "averages of NCHW maps, one operator a level; it has no maximum, so both modes stand beside the same time.",
        "",
        *_table(("kernel", "shape", "type", "tfdet", "torchvision", "faster", "GB/s (of the copy)"), rows),
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]


if __name__ == "__main__":
    sys.exit(main())
