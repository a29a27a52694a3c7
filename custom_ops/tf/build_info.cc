// What the library was built for, as text that can be found in the file without loading it (tfdet/ops/native.py).
extern "C" __attribute__((visibility("default"), used)) const char tfdet_ops_build_info[] =
    "tfdet_ops_build{tensorflow=" TFDET_TF_VERSION ";cuda=" TFDET_CUDA_VERSION ";archs=" TFDET_CUDA_ARCHS "}";
