#include "custom_ops/kernels/channel_rows.h"

#include <cfloat>
#include <cstring>

#include "custom_ops/kernels/roi_align.h"
#include "custom_ops/kernels/simd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define TFDET_F16C 1
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace tfdet {
namespace {

// Eight channels; the compiler makes of it what the instruction set has.
typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t Numbers __attribute__((vector_size(32), aligned(4), may_alias));
constexpr int kLanes = 8, kBlock = 4 * kLanes;

TFDET_INLINE const Lanes* At(const float* row) { return reinterpret_cast<const Lanes*>(row); }
TFDET_INLINE Lanes* At(float* row) { return reinterpret_cast<Lanes*>(row); }

}  // namespace

TFDET_SIMD void WeightedSum(const float* const* rows, const float* weights, int count, bool add, int64_t channels,
                            float* out) {
  int64_t c = 0;
  for (; c + kBlock <= channels; c += kBlock) {
    Lanes a[4] = {};
    if (add)
      for (int j = 0; j < 4; ++j) a[j] = At(out + c)[j];
    for (int k = 0; k < count; ++k) {
      const float w = weights[k];
      const Lanes* p = At(rows[k] + c);
      a[0] += w * p[0];
      a[1] += w * p[1];
      a[2] += w * p[2];
      a[3] += w * p[3];
    }
    for (int j = 0; j < 4; ++j) At(out + c)[j] = a[j];
  }
  for (; c + kLanes <= channels; c += kLanes) {
    Lanes a = {};
    if (add) a = *At(out + c);
    for (int k = 0; k < count; ++k) a += weights[k] * *At(rows[k] + c);
    *At(out + c) = a;
  }
  for (; c < channels; ++c) {
    float a = add ? out[c] : 0.0f;
    for (int k = 0; k < count; ++k) a += weights[k] * rows[k][c];
    out[c] = a;
  }
}

TFDET_SIMD void LargestSample(const float* const* rows, const float* weights, const uint8_t* ids, int samples,
                              int64_t channels, float* out, uint8_t* winner) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= channels; c += 2 * kLanes) {
    Lanes best0 = {}, best1;
    best0 -= FLT_MAX;
    best1 = best0;
    int32_t won[2 * kLanes];
    Numbers won0 = {}, won1;
    won0 += int32_t(kRoiAlignNoWinner);
    won1 = won0;
    for (int s = 0; s < samples; ++s) {
      const float* w = weights + 4 * s;
      const float* const* r = rows + 4 * s;
      Lanes v0 = w[0] * At(r[0] + c)[0] + w[1] * At(r[1] + c)[0] + w[2] * At(r[2] + c)[0] + w[3] * At(r[3] + c)[0];
      Lanes v1 = w[0] * At(r[0] + c)[1] + w[1] * At(r[1] + c)[1] + w[2] * At(r[2] + c)[1] + w[3] * At(r[3] + c)[1];
      const Numbers id = Numbers{} + int32_t(ids[s]);
      const auto more0 = v0 > best0, more1 = v1 > best1;
      best0 = more0 ? v0 : best0;
      best1 = more1 ? v1 : best1;
      won0 = more0 ? id : won0;
      won1 = more1 ? id : won1;
    }
    At(out + c)[0] = best0;
    At(out + c)[1] = best1;
    std::memcpy(won, &won0, sizeof(won0));
    std::memcpy(won + kLanes, &won1, sizeof(won1));
    for (int j = 0; j < 2 * kLanes; ++j) winner[c + j] = uint8_t(won[j]);
  }
  for (; c < channels; ++c) {
    float best = -FLT_MAX;
    uint8_t won = kRoiAlignNoWinner;
    for (int s = 0; s < samples; ++s) {
      const float* w = weights + 4 * s;
      const float* const* r = rows + 4 * s;
      const float v = w[0] * r[0][c] + w[1] * r[1][c] + w[2] * r[2][c] + w[3] * r[3][c];
      if (v > best) {
        best = v;
        won = ids[s];
      }
    }
    out[c] = best;
    winner[c] = won;
  }
}

TFDET_SIMD void AddToRows(float* const* rows, const float* weights, int count, int64_t channels,
                          const float* upstream) {
  int64_t c = 0;
  for (; c + kBlock <= channels; c += kBlock) {
    const Lanes u0 = At(upstream + c)[0], u1 = At(upstream + c)[1], u2 = At(upstream + c)[2], u3 = At(upstream + c)[3];
    for (int k = 0; k < count; ++k) {
      Lanes* p = At(rows[k] + c);
      const float w = weights[k];
      p[0] += w * u0;
      p[1] += w * u1;
      p[2] += w * u2;
      p[3] += w * u3;
    }
  }
  for (; c + kLanes <= channels; c += kLanes)
    for (int k = 0; k < count; ++k) *At(rows[k] + c) += weights[k] * *At(upstream + c);
  for (; c < channels; ++c)
    for (int k = 0; k < count; ++k) rows[k][c] += weights[k] * upstream[c];
}

TFDET_SIMD void FourProducts(const float* upstream, const float* const* rows, int64_t channels, float* products) {
  Lanes sums[4] = {};
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    const Lanes u = *At(upstream + c);
    for (int k = 0; k < 4; ++k) sums[k] += u * *At(rows[k] + c);
  }
  for (int k = 0; k < 4; ++k) {
    float total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += sums[k][lane];
    for (int64_t rest = c; rest < channels; ++rest) total += upstream[rest] * rows[k][rest];
    products[k] = total;
  }
}

TFDET_SIMD void AddToRowsOfWinner(float* const* rows, const float* weights, int count, uint8_t id, int64_t channels,
                                  const float* upstream, const uint8_t* winner) {
  int64_t c = 0;
  float own[kBlock];
  for (; c + kBlock <= channels; c += kBlock) {
    for (int j = 0; j < kBlock; ++j) own[j] = winner[c + j] == id ? upstream[c + j] : 0.0f;
    const Lanes u0 = At(own)[0], u1 = At(own)[1], u2 = At(own)[2], u3 = At(own)[3];
    for (int k = 0; k < count; ++k) {
      Lanes* p = At(rows[k] + c);
      const float w = weights[k];
      p[0] += w * u0;
      p[1] += w * u1;
      p[2] += w * u2;
      p[3] += w * u3;
    }
  }
  for (; c < channels; ++c)
    if (winner[c] == id)
      for (int k = 0; k < count; ++k) rows[k][c] += weights[k] * upstream[c];
}

TFDET_SIMD void RowToFloat(const BFloat16* row, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = uint32_t(row[i].x) << 16;
    std::memcpy(out + i, &bits, sizeof(bits));
  }
}

TFDET_SIMD void RowFromFloat(const float* row, int64_t count, BFloat16* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, row + i, sizeof(bits));
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    out[i].x = uint16_t(nan ? (bits >> 16) | 64 : rounded);
  }
}

#if TFDET_F16C
namespace {

bool HasF16c() {
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
const bool kHasF16c = HasF16c();

__attribute__((target("avx,f16c"))) int64_t ToFloatF16c(const Half16* row, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + i))));
  return i;
}

__attribute__((target("avx,f16c"))) int64_t FromFloatF16c(const float* row, int64_t count, Half16* out) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(row + i), _MM_FROUND_TO_NEAREST_INT));
  return i;
}

}  // namespace
#endif

void RowToFloat(const Half16* row, int64_t count, float* out) {
  int64_t i = 0;
#if TFDET_F16C
  if (kHasF16c) i = ToFloatF16c(row, count, out);
#endif
  for (; i < count; ++i) out[i] = ToFloat(row[i]);
}

void RowFromFloat(const float* row, int64_t count, Half16* out) {
  int64_t i = 0;
#if TFDET_F16C
  if (kHasF16c) i = FromFloatF16c(row, count, out);
#endif
  for (; i < count; ++i) out[i] = FromFloat<Half16>(row[i]);
}

}  // namespace tfdet
