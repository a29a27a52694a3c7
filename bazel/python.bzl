"""One rule for Python sources on every Bazel.

Bazel 4 to 7 have py_library built in, Bazel 8 takes it from rules_python by itself, Bazel 9 has none unless a project
asks for rules_python: there the sources are a filegroup, which is all that rules of other languages need.
"""

def python_library(name, srcs, data = [], **kwargs):
    """Makes `srcs` a py_library, or a filegroup where this Bazel has no such rule.

    Args:
      name: the target's name.
      srcs: Python files.
      data: targets or files that the code reads.
      **kwargs: visibility, tags and other attributes that every rule has.
    """
    if hasattr(native, "py_library"):
        native.py_library(name = name, srcs = srcs, data = data, imports = ["."], **kwargs)
    else:
        native.filegroup(name = name, srcs = srcs, data = data, **kwargs)
