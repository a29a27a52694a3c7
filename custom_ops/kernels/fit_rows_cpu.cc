#include "custom_ops/kernels/fit_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "custom_ops/kernels/simd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define TFDET_AVX2 1
#include <immintrin.h>
#endif

namespace tfdet {
namespace {

constexpr int kWeightBits = 22, kLanes = 8, kBlockBytes = 16;
constexpr int32_t kHalf = 1 << (kWeightBits - 1);

TFDET_INLINE uint8_t Level(int32_t sum) {
  const int32_t level = (sum + kHalf) >> kWeightBits;
  return static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
}

TFDET_INLINE uint8_t Rounded(float value) { return static_cast<uint8_t>(std::nearbyint(value)); }

#if TFDET_AVX2
bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}

#define TFDET_TARGET_AVX2 __attribute__((target("avx2")))

TFDET_TARGET_AVX2 inline __m128i Load16(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }

// Eight whole numbers of 0 to 255 from the lower half.
TFDET_TARGET_AVX2 inline __m256i Wide(__m128i bytes) { return _mm256_cvtepu8_epi32(bytes); }

TFDET_TARGET_AVX2 inline __m256i Wide8(const uint8_t* at) {
  return Wide(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
}

// 32 whole numbers to bytes, in order.
TFDET_TARGET_AVX2 inline void StoreBytes(__m256i a, __m256i b, __m256i c, __m256i d, uint8_t* out) {
  const __m256i packed = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permutevar8x32_epi32(packed, order));
}

TFDET_TARGET_AVX2 void LinearBlocks(const LinearBlock* blocks, size_t count, const uint8_t* row, float* out) {
  for (size_t i = 0; i < count; ++i) {
    const LinearBlock& block = blocks[i];
    const __m128i bytes = _mm_shuffle_epi8(Load16(row + block.start), Load16(block.pick));
    const __m256 first = _mm256_cvtepi32_ps(Wide(bytes));
    const __m256 second = _mm256_cvtepi32_ps(Wide(_mm_unpackhi_epi64(bytes, bytes)));
    const __m256 more = _mm256_mul_ps(_mm256_sub_ps(second, first), _mm256_loadu_ps(block.weight));
    _mm256_storeu_ps(out + kLanes * i, _mm256_add_ps(first, more));
  }
}

TFDET_TARGET_AVX2 inline __m128 Pixel(const uint8_t* at) {
  int32_t bytes;
  std::memcpy(&bytes, at, 4);
  return _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes)));
}

// Pixels of three channels up to the first that reads the last pixel of the row, behind which there may be nothing.
TFDET_TARGET_AVX2 int64_t LinearPixels(const LinearTaps& taps, int64_t from, int64_t pixels, int32_t last,
                                       const uint8_t* row, float* out) {
  int64_t x = from;
  for (; x < pixels && taps.first[x] < last && taps.second[x] < last; ++x) {
    const __m128 first = Pixel(row + 3 * taps.first[x]), second = Pixel(row + 3 * taps.second[x]);
    const __m128 more = _mm_mul_ps(_mm_sub_ps(second, first), _mm_set1_ps(taps.weight[x]));
    _mm_storeu_ps(out + 3 * x, _mm_add_ps(first, more));
  }
  return x;
}

TFDET_TARGET_AVX2 inline __m256i Shifted(__m256i sum) {
  return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(kHalf)), kWeightBits);
}

TFDET_TARGET_AVX2 inline __m256i Weights(const int32_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

// Whole blocks alone; the last values are the caller's.
TFDET_TARGET_AVX2 void WeightedBlocks(const WeightedBlock* blocks, size_t count, const uint8_t* row, uint8_t* out) {
  for (size_t i = 0; i < count; ++i) {
    const WeightedBlock& block = blocks[i];
    const __m128i bytes = _mm_shuffle_epi8(Load16(row + block.start), Load16(block.pick));
    const __m256i first = _mm256_mullo_epi32(Wide(bytes), Weights(block.weight[0]));
    const __m256i second = _mm256_mullo_epi32(Wide(_mm_unpackhi_epi64(bytes, bytes)), Weights(block.weight[1]));
    const __m256i level = Shifted(_mm256_add_epi32(first, second));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(level), _mm256_extracti128_si256(level, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + kLanes * i), _mm_packus_epi16(words, words));
  }
}

// One pixel of three channels, whose last tap is not the last pixel of the row.
TFDET_TARGET_AVX2 void WeightedPixel(const uint8_t* at, const int32_t* weights, int taps, uint8_t* out) {
  __m128i sum = _mm_set1_epi32(kHalf);
  for (int k = 0; k < taps; ++k) {
    int32_t bytes;
    std::memcpy(&bytes, at + 3 * k, 4);
    const __m128i values = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes));
    sum = _mm_add_epi32(sum, _mm_mullo_epi32(values, _mm_set1_epi32(weights[k])));
  }
  const __m128i words = _mm_packs_epi32(_mm_srai_epi32(sum, kWeightBits), _mm_setzero_si128());
  const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  std::memcpy(out, &bytes, 3);
}

TFDET_TARGET_AVX2 inline __m256i BetweenLevels(const float* top, const float* bottom, __m256 weight) {
  const __m256 first = _mm256_loadu_ps(top);
  const __m256 more = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(bottom), first), weight);
  return _mm256_cvtps_epi32(_mm256_add_ps(first, more));  // half to even
}

TFDET_TARGET_AVX2 int64_t BetweenBlocks(const float* top, const float* bottom, float weight, int64_t count,
                                        uint8_t* out) {
  const __m256 w = _mm256_set1_ps(weight);
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    const float *a = top + i, *b = bottom + i;
    StoreBytes(BetweenLevels(a, b, w), BetweenLevels(a + 8, b + 8, w), BetweenLevels(a + 16, b + 16, w),
               BetweenLevels(a + 24, b + 24, w), out + i);
  }
  return i;
}

TFDET_TARGET_AVX2 int64_t WeightedRowBlocks(const uint8_t* const* rows, const int32_t* weights, int count,
                                            int64_t length, uint8_t* out) {
  int64_t i = 0;
  for (; i + 4 * kLanes <= length; i += 4 * kLanes) {
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (int k = 0; k < count; ++k) {
      const uint8_t* row = rows[k] + i;
      const __m256i w = _mm256_set1_epi32(weights[k]);
      a = _mm256_add_epi32(a, _mm256_mullo_epi32(Wide8(row), w));
      b = _mm256_add_epi32(b, _mm256_mullo_epi32(Wide8(row + 8), w));
      c = _mm256_add_epi32(c, _mm256_mullo_epi32(Wide8(row + 16), w));
      d = _mm256_add_epi32(d, _mm256_mullo_epi32(Wide8(row + 24), w));
    }
    StoreBytes(Shifted(a), Shifted(b), Shifted(c), Shifted(d), out + i);
  }
  return i;
}
#endif  // TFDET_AVX2

// The blocks of a row whose value `v` has its taps at bytes first(v) and second(v) and weights that `weigh` sets: none
// where a block needs more than its bytes, or the processor has no instruction for it.
template <typename Block, typename First, typename Second, typename Weigh>
std::vector<Block> BlocksOf(int64_t values, int64_t row_bytes, const First& first, const Second& second,
                            const Weigh& weigh) {
  std::vector<Block> blocks;
#if TFDET_AVX2
  if (row_bytes < kBlockBytes || !HasAvx2()) return blocks;
  blocks.resize((values + kLanes - 1) / kLanes);
  for (size_t i = 0; i < blocks.size(); ++i) {
    Block& block = blocks[i];
    const int64_t begin = kLanes * static_cast<int64_t>(i);
    int64_t low = row_bytes, high = 0;
    for (int64_t v = begin; v < std::min(begin + kLanes, values); ++v) {
      low = std::min(low, std::min(first(v), second(v)));
      high = std::max(high, std::max(first(v), second(v)));
    }
    const int64_t start = std::min(low, row_bytes - kBlockBytes);
    if (high - start >= kBlockBytes) return {};
    block.start = static_cast<int32_t>(start);
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t v = std::min(begin + lane, values - 1);  // behind the last value: some value
      block.pick[lane] = static_cast<uint8_t>(first(v) - start);
      block.pick[lane + kLanes] = static_cast<uint8_t>(second(v) - start);
      weigh(v, lane, &block);
    }
  }
#endif
  return blocks;
}

}  // namespace

LinearColumns::LinearColumns(LinearTaps taps, int64_t width, int64_t channels)
    : taps_(std::move(taps)), width_(width), channels_(channels) {
  if (channels != 3 || width > (1 << 28)) return;
  blocks_ = BlocksOf<LinearBlock>(
      3 * static_cast<int64_t>(taps_.first.size()), 3 * width,
      [this](int64_t v) { return 3 * int64_t(taps_.first[v / 3]) + v % 3; },
      [this](int64_t v) { return 3 * int64_t(taps_.second[v / 3]) + v % 3; },
      [this](int64_t v, int lane, LinearBlock* block) { block->weight[lane] = taps_.weight[v / 3]; });
}

void LinearColumns::Resize(const uint8_t* row, float* out) const {
  const int64_t pixels = static_cast<int64_t>(taps_.first.size());
#if TFDET_AVX2
  if (!blocks_.empty()) return LinearBlocks(blocks_.data(), blocks_.size(), row, out);
  const bool by_pixel = channels_ == 3 && HasAvx2();
#else
  const bool by_pixel = false;
#endif
  for (int64_t x = 0; x < pixels; ++x) {
#if TFDET_AVX2
    if (by_pixel) x = LinearPixels(taps_, x, pixels, static_cast<int32_t>(width_ - 1), row, out);
    if (x == pixels) break;
#endif
    const uint8_t *a = row + channels_ * taps_.first[x], *b = row + channels_ * taps_.second[x];
    for (int64_t c = 0; c < channels_; ++c) {
      const float first = a[c], second = b[c];
      out[channels_ * x + c] = first + (second - first) * taps_.weight[x];
    }
  }
}

WeightedColumns::WeightedColumns(WeightedTaps taps, int64_t width, int64_t channels)
    : taps_(std::move(taps)), width_(width), channels_(channels) {
  if (channels != 3 || taps_.taps > 2 || width > (1 << 28)) return;
  const int last = taps_.taps - 1;
  blocks_ = BlocksOf<WeightedBlock>(
      3 * static_cast<int64_t>(taps_.begin.size()), 3 * width,
      [this](int64_t v) { return 3 * int64_t(taps_.begin[v / 3]) + v % 3; },
      [this, last](int64_t v) { return 3 * int64_t(taps_.begin[v / 3] + last) + v % 3; },
      [this, last](int64_t v, int lane, WeightedBlock* block) {
        const int32_t* weights = &taps_.weight[taps_.taps * (v / 3)];
        block->weight[0][lane] = weights[0];
        block->weight[1][lane] = last ? weights[last] : 0;
      });
}

void WeightedColumns::Resize(const uint8_t* row, uint8_t* out) const {
  const int64_t pixels = static_cast<int64_t>(taps_.begin.size());
  int64_t x = 0;
#if TFDET_AVX2
  if (!blocks_.empty()) {
    // Whole blocks, and of those only what pixels begin: the rest is done one by one.
    const int64_t whole = channels_ * pixels / kLanes;
    WeightedBlocks(blocks_.data(), whole, row, out);
    x = kLanes * whole / channels_;
  }
  const bool by_pixel = channels_ == 3 && HasAvx2();
#endif
  for (; x < pixels; ++x) {
    const uint8_t* at = row + channels_ * taps_.begin[x];
    const int32_t* weights = &taps_.weight[taps_.taps * x];
#if TFDET_AVX2
    if (by_pixel && taps_.begin[x] + taps_.taps < width_) {
      WeightedPixel(at, weights, taps_.taps, out + 3 * x);
      continue;
    }
#endif
    for (int64_t c = 0; c < channels_; ++c) {
      int32_t sum = 0;
      for (int k = 0; k < taps_.taps; ++k) sum += weights[k] * at[channels_ * k + c];
      out[channels_ * x + c] = Level(sum);
    }
  }
}

void Between(const float* top, const float* bottom, float weight, int64_t count, uint8_t* out) {
  int64_t i = 0;
#if TFDET_AVX2
  if (HasAvx2()) i = BetweenBlocks(top, bottom, weight, count, out);
#endif
  for (; i < count; ++i) out[i] = Rounded(top[i] + (bottom[i] - top[i]) * weight);
}

TFDET_SIMD void Between(const float* top, const float* bottom, float weight, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = top[i] + (bottom[i] - top[i]) * weight;
}

void WeightedRows(const uint8_t* const* rows, const int32_t* weights, int count, int64_t length, uint8_t* out) {
  int64_t i = 0;
#if TFDET_AVX2
  if (HasAvx2()) i = WeightedRowBlocks(rows, weights, count, length, out);
#endif
  for (; i < length; ++i) {
    int32_t sum = 0;
    for (int k = 0; k < count; ++k) sum += weights[k] * rows[k][i];
    out[i] = Level(sum);
  }
}

}  // namespace tfdet
