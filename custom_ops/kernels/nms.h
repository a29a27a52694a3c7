// Greedy and soft non-maximum suppression of every class of a batch. Plain C++: no TensorFlow, no CUDA header.
#pragma once

#include <cstddef>
#include <cstdint>

#include "custom_ops/kernels/parallel.h"

namespace tfdet {

enum class NmsMethod { kHard = 0, kLinear = 1, kGaussian = 2 };  // soft: Bodla et al., Soft-NMS, ICCV 2017

struct NmsSizes {
  int64_t batch = 0, boxes = 0, classes = 0;
  int64_t box_sets = 1;  // 1, or as many as classes
};

struct NmsOptions {
  float iou_threshold = 0.5f;
  bool inclusive = false;       // an IoU equal to the threshold counts as above it
  float score_threshold = 0.0f; // only scores above it
  float extra_pixel = 1.0f;     // what makes x2 - x1 a width: 1 (legacy_plus_one) or 0 (continuous)
  NmsMethod method = NmsMethod::kHard;
  float sigma = 0.5f;           // of kGaussian: scores decay by exp(-IoU^2 / sigma)
  int64_t max_detections = 100;
};

// Rows of max_detections an image, best first: padded with zero boxes and scores, class and index -1.
struct NmsOutputs {
  float* boxes;        // [batch, max_detections, 4]
  float* scores;       // [batch, max_detections]
  int32_t* classes;    // [batch, max_detections]
  int32_t* indices;    // [batch, max_detections], of the box among the image's
  int32_t* num_valid;  // [batch]
};

// The threshold for a test that is strict.
float StrictThreshold(float iou_threshold, bool inclusive);

// boxes [batch, boxes, box_sets, 4], scores [batch, boxes, classes]; classes * boxes below 2^31.
// Boxes that are not numbers never take part. Equal scores: lower class first, then lower index.
void BatchedNmsCpu(const NmsSizes& sizes, const NmsOptions& options, const float* boxes, const float* scores,
                   const NmsOutputs& outputs, const ParallelFor& parallel_for);

// Hard suppression of n boxes [n, 4] in the order in which they stand, all of them numbers. Writes the positions of
// those kept, at most max_keep, and returns their number.
int64_t SuppressInOrder(const float* boxes, int64_t n, float extra_pixel, float strict_threshold, int64_t max_keep,
                        int32_t* kept, const ParallelFor& parallel_for);

// From so many boxes on, one problem is worth all threads.
constexpr int64_t kManyBoxes = 4096;

// On the GPU. Functions return a cudaError_t as int. Workspaces: at least so many bytes, aligned to 256.
// batch * boxes * classes below 2^31.
int BatchedNmsGpuWorkspace(const NmsSizes& sizes, const NmsOptions& options, size_t* bytes);
int BatchedNmsGpu(const NmsSizes& sizes, const NmsOptions& options, const float* boxes, const float* scores,
                  const NmsOutputs& outputs, void* workspace, GpuStream stream);

}  // namespace tfdet
