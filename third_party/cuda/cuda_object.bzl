"""cuda_object: one .cu file becomes one position-independent object file, compiled by nvcc."""

load("@local_config_cuda//:defs.bzl", "CUDA_ARCHS", "CUDA_TOP", "HAVE_CUDA")

def _impl(ctx):
    if not HAVE_CUDA:
        fail("no CUDA toolkit was found. Set CUDA_HOME, or put nvcc on PATH (pip's nvidia-cuda-nvcc-cu12 has no nvcc).")
    out = ctx.actions.declare_file(ctx.label.name + ".pic.o")
    args = ctx.actions.args()

    # -fmad=false: what decides (an IoU against a threshold, the place of a sample) must round as on the CPU.
    args.add_all(["-std=c++17", "-O3", "-fmad=false", "-I.", "-Xcompiler", "-fPIC,-fvisibility=hidden"])
    args.add_all(["--threads", "0", "-c"])
    for arch in CUDA_ARCHS:
        args.add_all(["-gencode", "arch=compute_%s,code=sm_%s" % (arch, arch)])

    # PTX of the newest one, for GPUs that are newer still.
    args.add_all(["-gencode", "arch=compute_%s,code=compute_%s" % (CUDA_ARCHS[-1], CUDA_ARCHS[-1])])
    args.add(ctx.file.src)
    args.add("-o", out)
    ctx.actions.run(
        executable = CUDA_TOP + "/bin/nvcc",
        arguments = [args],
        inputs = [ctx.file.src] + ctx.files.hdrs,
        outputs = [out],
        mnemonic = "CudaCompile",
        progress_message = "Compiling CUDA %s" % ctx.file.src.short_path,
        env = {"PATH": CUDA_TOP + "/bin:/usr/local/bin:/usr/bin:/bin"},
    )
    return [DefaultInfo(files = depset([out]))]

cuda_object = rule(
    implementation = _impl,
    attrs = {
        "src": attr.label(allow_single_file = [".cu"], mandatory = True),
        "hdrs": attr.label_list(allow_files = True),
    },
)
