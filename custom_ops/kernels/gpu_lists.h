// What suppression and proposals share on the GPU: sorts of many lists at once, suppression of many sorted lists.
// Functions return a cudaError_t as int.
#pragma once

#include <cstddef>
#include <cstdint>

#include "custom_ops/kernels/parallel.h"

namespace tfdet {

// Hands out parts of a workspace; without one (null) it only counts. Parts are aligned to 256 bytes.
class WorkspaceParts {
 public:
  explicit WorkspaceParts(void* workspace) : base_(static_cast<char*>(workspace)) {}
  template <typename T>
  T* Take(int64_t count) {
    const size_t begin = bytes_;
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return base_ ? reinterpret_cast<T*>(base_ + begin) : nullptr;
  }
  size_t bytes() const { return bytes_; }

 private:
  char* base_;
  size_t bytes_ = 0;
};

// Stable ascending sort of keys (list << 32 | key within the list), list below `lists`, with their values; n below 2^31.
int SortListsGpuWorkspace(int64_t n, int64_t lists, size_t* bytes);
int SortListsGpu(const uint64_t* keys, uint64_t* sorted_keys, const uint32_t* values, uint32_t* sorted_values, int64_t n,
                 int64_t lists, void* workspace, size_t workspace_bytes, GpuStream stream);

// How the boxes of list i are compared: by entry i % period.
struct SuppressionRules {
  static constexpr int kMax = 16;
  int period;
  float extra_pixel[kMax];
  float strict_threshold[kMax];
};

// Hard suppression of each list in the order in which its boxes stand. boxes [lists, capacity, 4], the first counts[i]
// of list i count and are numbers. Writes the positions of those kept, kept [lists, max_keep], and kept_counts [lists].
size_t SuppressListsGpuWorkspace(int64_t lists, int64_t capacity);
int SuppressListsGpu(const float* boxes, const int32_t* counts, int64_t lists, int64_t capacity,
                     const SuppressionRules& rules, int64_t max_keep, int32_t* kept, int32_t* kept_counts,
                     void* workspace, GpuStream stream);

}  // namespace tfdet
