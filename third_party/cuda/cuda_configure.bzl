"""Finds a CUDA toolkit; without one the repository is a stub, so CPU builds never need CUDA."""
_PIP = "import sysconfig, glob; print('\\n'.join(sorted(glob.glob(sysconfig.get_paths()['purelib'] + '/nvidia/cu*'))[::-1] + sorted(glob.glob(sysconfig.get_paths()['purelib'] + '/nvidia/cuda_nvcc'))))"

def _top(rctx, nvcc):
    # nvcc may be a wrapper script: ask it where its toolkit is.
    r = rctx.execute([nvcc, "--dryrun", "-x", "cu", "-c", "/dev/null", "-o", "/dev/null"])
    for l in (r.stderr + r.stdout).split("\n"):
        if l.startswith("#$ TOP="):
            return str(rctx.path(l[len("#$ TOP="):].strip()).realpath)
    return None

def _impl(rctx):
    env = rctx.os.environ
    cands = [env[k] + "/bin/nvcc" for k in ["CUDA_HOME", "CUDA_PATH"] if env.get(k)]
    w = rctx.which("nvcc")
    cands += [str(w)] if w else []
    cands += ["/usr/local/cuda/bin/nvcc"]
    py = env.get("PYTHON_BIN_PATH") or rctx.which("python3")
    if py:
        r = rctx.execute([py, "-c", _PIP])
        cands += [d + "/bin/nvcc" for d in r.stdout.split("\n") if d]
    top = None
    for c in cands:
        if rctx.path(c).exists:
            top = _top(rctx, c)
            if top:
                break
    have = top != None
    archs, version, static = [], "", ""
    if have:
        nvcc = top + "/bin/nvcc"
        known = rctx.execute([nvcc, "--list-gpu-arch"]).stdout.split("\n")
        known = [a.replace("compute_", "") for a in known if a.startswith("compute_")]
        want = env.get("TFDET_CUDA_ARCHS", "70,75,80,86,89,90").split(",")
        archs = [a for a in want if a in known]
        version = rctx.execute([nvcc, "--version"]).stdout.split("release ")[-1].split(",")[0]
        for d in ["lib64", "lib", "targets/x86_64-linux/lib"]:
            if rctx.path(top + "/" + d + "/libcudart_static.a").exists:
                static = top + "/" + d + "/libcudart_static.a"
                rctx.symlink(static, "libcudart_static.a")
                break
        rctx.symlink(top + "/include", "include")
    rctx.file("defs.bzl", "HAVE_CUDA = %r\nCUDA_TOP = %r\nCUDA_ARCHS = %r\nCUDA_VERSION = %r\n" % (have, top or "", archs, version))
    rctx.file("BUILD.bazel", """
package(default_visibility = ["//visibility:public"])
# Goes into cc_binary's srcs, not its deps: the archive has to stand before libtensorflow_framework
# on the link line, which exports stubs of the same names for the CUDA version TensorFlow was built with.
filegroup(name = "cudart_static", srcs = %r)
""" % (["libcudart_static.a"] if static else []))

cuda_configure = repository_rule(implementation = _impl, environ = ["CUDA_HOME", "CUDA_PATH", "PATH", "PYTHON_BIN_PATH", "TFDET_CUDA_ARCHS"], local = True)
