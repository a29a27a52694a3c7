// TFDET_SIMD before a function with a hot loop: compiled for AVX-512, AVX2 and the base instruction set, chosen when the
// library is loaded. Fused multiply-add stays off (-ffp-contract=off), so that all of them round alike.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define TFDET_SIMD __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define TFDET_SIMD
#endif
#define TFDET_INLINE inline __attribute__((always_inline))
