#include "custom_ops/kernels/score_sort.h"

#include <algorithm>

namespace tfdet {

void SortItems(std::vector<uint64_t>* items) {
  const size_t n = items->size();
  if (n < 512) {
    std::sort(items->begin(), items->end());
    return;
  }
  // Radix sort of the upper halves, least significant digit first, which is stable.
  constexpr int kDigitBits = 11, kDigits = 3, kBuckets = 1 << kDigitBits;
  std::vector<uint32_t> counts(kDigits * kBuckets, 0);
  for (uint64_t item : *items)
    for (int d = 0; d < kDigits; ++d) ++counts[d * kBuckets + (item >> (32 + d * kDigitBits) & (kBuckets - 1))];
  std::vector<uint64_t> other(n);
  for (int d = 0; d < kDigits; ++d) {
    uint32_t* offsets = &counts[d * kBuckets];
    const int shift = 32 + d * kDigitBits;
    if (offsets[(*items)[0] >> shift & (kBuckets - 1)] == n) continue;  // all alike
    uint32_t sum = 0;
    for (int b = 0; b < kBuckets; ++b) {
      const uint32_t count = offsets[b];
      offsets[b] = sum;
      sum += count;
    }
    for (uint64_t item : *items) other[offsets[item >> shift & (kBuckets - 1)]++] = item;
    items->swap(other);
  }
}

void BestItems(const float* scores, int64_t n, int64_t k, std::vector<uint64_t>* items) {
  items->clear();
  const uint32_t lowest = DescendingKey(-__builtin_inff());
  if (k <= 0) return;
  k = std::min(k, n);
  if (n <= 2 * k) {
    for (int64_t i = 0; i < n; ++i)
      if (DescendingKey(scores[i]) < lowest) items->push_back(SortItem(scores[i], i));
  } else {
    // A histogram of the leading bits tells which scores cannot be among the best; only the others are sorted.
    constexpr int kShift = 18, kBins = 1 << (32 - kShift);
    std::vector<uint32_t> counts(kBins, 0);
    for (int64_t i = 0; i < n; ++i) ++counts[DescendingKey(scores[i]) >> kShift];
    int64_t enough = 0;
    uint32_t bin = 0;
    while (bin < kBins && enough < k) enough += counts[bin++];
    items->reserve(std::min(enough, n));
    const uint64_t end = std::min<uint64_t>(uint64_t(bin) << kShift, lowest);
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t key = DescendingKey(scores[i]);
      if (key < end) items->push_back(uint64_t(key) << 32 | uint32_t(i));
    }
  }
  SortItems(items);
  if (static_cast<int64_t>(items->size()) > k) items->resize(k);
}

}  // namespace tfdet
