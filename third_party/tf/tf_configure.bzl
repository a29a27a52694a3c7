"""Repository with the headers and framework library of the installed TensorFlow wheel."""
_PROBE = "import tensorflow as tf; s = tf.sysconfig; print(s.get_include()); print(s.get_lib()); print(' '.join(s.get_compile_flags())); print(' '.join(s.get_link_flags())); print(tf.__version__)"

def _impl(rctx):
    py = rctx.os.environ.get("PYTHON_BIN_PATH") or rctx.which("python3")
    r = rctx.execute([py, "-c", _PROBE], environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}, timeout = 600)
    if r.return_code != 0:
        fail("tensorflow is not importable by %s (set PYTHON_BIN_PATH): %s" % (py, r.stderr))
    inc, lib, cflags, lflags, ver = [l for l in r.stdout.split("\n") if l][-5:]
    rctx.symlink(inc, "include")
    so = None
    for l in lflags.split(" "):
        if l.startswith("-l:"):
            so = "lib/" + l[3:]
            rctx.symlink(lib + "/" + l[3:], so)
    copts = [c for c in cflags.split(" ") if not c.startswith("-I") and "std=" not in c]
    rctx.file("defs.bzl", "TF_COPTS = %r\nTF_VERSION = %r\n" % (copts, ver))
    rctx.file("BUILD.bazel", """
load("@rules_cc//cc:defs.bzl", "cc_import", "cc_library")
package(default_visibility = ["//visibility:public"])
# Headers are given with -isystem and are not listed one by one (12 000 files): the include folder is one input.
cc_library(name = "headers", hdrs = [":include"], includes = ["include"])
cc_import(name = "framework", shared_library = "%s")
""" % so)

tf_configure = repository_rule(implementation = _impl, environ = ["PYTHON_BIN_PATH", "PATH"], local = True)
