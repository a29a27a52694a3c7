// Stable descending sorts by score, on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "custom_ops/kernels/box_overlap.h"

namespace tfdet {

// One thing to sort: the key of its score above, its index below. Sorting them ascending is the stable descending sort.
inline uint64_t SortItem(float score, uint32_t index) { return uint64_t(DescendingKey(score)) << 32 | index; }
inline uint32_t IndexOf(uint64_t item) { return static_cast<uint32_t>(item); }
inline float ScoreOf(uint64_t item) { return ScoreOfKey(static_cast<uint32_t>(item >> 32)); }

// Sorts items that stand in ascending order of their index.
void SortItems(std::vector<uint64_t>* items);

// The k best of n scores in order, fewer where fewer are above minus infinity; n below 2^32.
void BestItems(const float* scores, int64_t n, int64_t k, std::vector<uint64_t>* items);

}  // namespace tfdet
