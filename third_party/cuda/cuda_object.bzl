"""cuda_object: one .cu file -> one position-independent object file, compiled by nvcc."""
load("@local_config_cuda//:defs.bzl", "CUDA_ARCHS", "CUDA_TOP", "HAVE_CUDA")

def _impl(ctx):
    if not HAVE_CUDA:
        fail("--config=cuda: no CUDA toolkit found. Set CUDA_HOME or put nvcc on PATH (a full toolkit: pip's nvidia-cuda-nvcc-cu12 has no nvcc).")
    out = ctx.actions.declare_file(ctx.label.name + ".pic.o")
    args = ctx.actions.args()
    args.add_all(["-std=c++17", "-O3", "-fmad=false", "-I.", "-Xcompiler", "-fPIC,-fvisibility=hidden", "--threads", "0", "-c"])
    for a in CUDA_ARCHS:
        args.add_all(["-gencode", "arch=compute_%s,code=sm_%s" % (a, a)])
    args.add_all(["-gencode", "arch=compute_%s,code=compute_%s" % (CUDA_ARCHS[-1], CUDA_ARCHS[-1])])
    args.add_all(ctx.attr.copts)
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
        "copts": attr.string_list(),
    },
)
