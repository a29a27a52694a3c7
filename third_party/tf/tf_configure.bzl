"""The headers and the framework library of the installed TensorFlow, as @local_config_tf.

PYTHON_BIN_PATH names the Python whose TensorFlow it is; default: python3 on PATH.
"""

_PROBE = """
import tensorflow as tf
print(tf.sysconfig.get_include())
print(tf.sysconfig.get_lib())
print(" ".join(tf.sysconfig.get_compile_flags()))
print(" ".join(tf.sysconfig.get_link_flags()))
print(tf.__version__)
"""

def _impl(rctx):
    python = rctx.os.environ.get("PYTHON_BIN_PATH") or rctx.which("python3")
    result = rctx.execute(
        [python, "-c", _PROBE],
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        timeout = 600,
    )
    if result.return_code != 0:
        fail("%s cannot import tensorflow: set PYTHON_BIN_PATH to a Python that can. %s" % (python, result.stderr))
    include, lib, compile_flags, link_flags, version = [line for line in result.stdout.split("\n") if line][-5:]
    rctx.symlink(include, "include")
    framework = None
    for flag in link_flags.split(" "):
        if flag.startswith("-l:"):
            framework = "lib/" + flag[3:]
            rctx.symlink(lib + "/" + flag[3:], framework)
    copts = [flag for flag in compile_flags.split(" ") if not flag.startswith("-I") and "std=" not in flag]
    rctx.file("defs.bzl", "TF_COPTS = %r\nTF_VERSION = %r\n" % (copts, version))
    rctx.file("BUILD.bazel", """
load("@rules_cc//cc:defs.bzl", "cc_import", "cc_library")

package(default_visibility = ["//visibility:public"])

# The folder is one input: its 12,000 headers one by one make every sandbox slow.
cc_library(
    name = "headers",
    hdrs = [":include"],
    includes = ["include"],
)

cc_import(
    name = "framework",
    shared_library = "%s",
)
""" % framework)

tf_configure = repository_rule(
    implementation = _impl,
    environ = ["PYTHON_BIN_PATH", "PATH"],
    local = True,
)
