"""The C++ rules that are built into Bazel 4 to 7, under the names that rules_cc gives them.

Bazel 8 and later take the real rules_cc (MODULE.bazel). Debian's copy of it does not load in Debian's own Bazel 4.2.3.
"""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
fdo_prefetch_hints = native.fdo_prefetch_hints
fdo_profile = native.fdo_profile
objc_import = native.objc_import
objc_library = native.objc_library
