// For programs without TensorFlow: a ParallelFor of plain threads, and the mark of what the library exports.
#pragma once

#include <algorithm>
#include <thread>
#include <vector>

#include "custom_ops/kernels/parallel.h"

#define TFDET_EXPORT extern "C" __attribute__((visibility("default")))

namespace tfdet {

inline ParallelFor Threads(int count) {
  return [count](int64_t total, int64_t, const RangeWork& work) {
    const int64_t parts = std::min<int64_t>(std::max(count, 1), total);
    if (parts <= 1) return RunSerially(total, 0, work);
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < parts; ++i)
      threads.emplace_back([&work, total, parts, i] { work(total * i / parts, total * (i + 1) / parts); });
    for (auto& thread : threads) thread.join();
  };
}

}  // namespace tfdet
