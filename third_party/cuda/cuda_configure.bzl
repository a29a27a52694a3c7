"""The CUDA toolkit as @local_config_cuda: its compiler, the architectures it knows, its static runtime.

Looked for, in order: CUDA_HOME or CUDA_PATH, nvcc on PATH, /usr/local/cuda, a pip-installed toolkit of the Python in use.
Without one the repository is a stub, so that CPU builds never need CUDA; --config=cuda then fails with a message.
"""

# Those of GPUs that TensorFlow 2.20 supports; what the compiler does not know is left out. TFDET_CUDA_ARCHS overrides.
_WANTED = "70,75,80,86,89,90,100,120"

_PIP = """
import glob, sysconfig
site = sysconfig.get_paths()["purelib"]
print("\\n".join(sorted(glob.glob(site + "/nvidia/cu*"), reverse = True)))
"""

def _toolkit_of(rctx, nvcc):
    # nvcc may be a script that calls another: it knows best where its toolkit is.
    result = rctx.execute([nvcc, "--dryrun", "-x", "cu", "-c", "/dev/null", "-o", "/dev/null"])
    for line in (result.stderr + result.stdout).split("\n"):
        if line.startswith("#$ TOP="):
            return str(rctx.path(line[len("#$ TOP="):].strip()).realpath)
    return None

def _find_toolkit(rctx):
    env = rctx.os.environ
    for name in ["CUDA_HOME", "CUDA_PATH"]:
        if env.get(name):
            nvcc = env[name] + "/bin/nvcc"
            top = _toolkit_of(rctx, nvcc) if rctx.path(nvcc).exists else None
            if not top:
                fail("%s=%s: no working nvcc in its bin/. Correct it, or unset it to look elsewhere." % (name, env[name]))
            return top
    candidates = ["/usr/local/cuda/bin/nvcc"]
    on_path = rctx.which("nvcc")
    if on_path:
        candidates = [str(on_path)] + candidates
    python = env.get("PYTHON_BIN_PATH") or rctx.which("python3")
    if python:
        folders = rctx.execute([python, "-c", _PIP]).stdout.split("\n")
        candidates += [folder + "/bin/nvcc" for folder in folders if folder]
    for nvcc in candidates:
        if rctx.path(nvcc).exists:
            top = _toolkit_of(rctx, nvcc)
            if top:
                return top
    return None

def _impl(rctx):
    top = _find_toolkit(rctx)
    archs, version, runtime = [], "", []
    if top:
        nvcc = top + "/bin/nvcc"
        known = rctx.execute([nvcc, "--list-gpu-arch"]).stdout.split("\n")
        known = [arch.replace("compute_", "") for arch in known if arch.startswith("compute_")]
        wanted = (rctx.os.environ.get("TFDET_CUDA_ARCHS") or _WANTED).split(",")
        archs = [arch for arch in wanted if arch in known]
        if not archs:
            fail("TFDET_CUDA_ARCHS=%s: this nvcc knows %s." % (",".join(wanted), ",".join(known)))
        version = rctx.execute([nvcc, "--version"]).stdout.split("release ")[-1].split(",")[0]
        for folder in ["lib64", "lib", "targets/x86_64-linux/lib"]:
            archive = top + "/" + folder + "/libcudart_static.a"
            if not runtime and rctx.path(archive).exists:
                rctx.symlink(archive, "libcudart_static.a")
                runtime = ["libcudart_static.a"]
        if not runtime:
            fail("%s has no libcudart_static.a: a full toolkit is needed (pip: nvidia-cuda-runtime of CUDA 13)." % top)
    rctx.file(
        "defs.bzl",
        "HAVE_CUDA = %r\nCUDA_TOP = %r\nCUDA_ARCHS = %r\nCUDA_VERSION = %r\n" % (top != None, top or "", archs, version),
    )
    rctx.file("BUILD.bazel", """
package(default_visibility = ["//visibility:public"])

# For cc_binary's srcs, not its deps: the archive has to stand before libtensorflow_framework on the link line, which
# exports stubs of the same names for the CUDA version that TensorFlow was built with.
filegroup(
    name = "cudart_static",
    srcs = %r,
)
""" % runtime)

cuda_configure = repository_rule(
    implementation = _impl,
    environ = ["CUDA_HOME", "CUDA_PATH", "PATH", "PYTHON_BIN_PATH", "TFDET_CUDA_ARCHS"],
    local = True,
)
