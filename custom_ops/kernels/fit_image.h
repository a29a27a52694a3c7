// One decoded image -> resized, mirrored, cut to a window and put on a canvas, in one pass over its rows.
#pragma once

#include <cstdint>

#include "custom_ops/kernels/parallel.h"

namespace tfdet {

// Whose resize it is: see Resize in tfdet/data/resize.py. The first and the last mirror the source, the second mirrors
// the window.
enum class ResizeRule {
  kSimpleDet,    // bilinear at (x + .5) / scale - .5 in float64, rounded half to even
  kDetectron2,   // Pillow's: as wide as what it shrinks, weights of 22 bits, two passes that round
  kTorchvision,  // bilinear by the ratio of the sizes in float32, not rounded: float32
};

// Input and output of one call. Arrays are dense and row-major. All sizes of the image and of the result are at least 1;
// the window lies in the result and, put at its place, in the canvas. It may be empty.
struct FitImageArgs {
  ResizeRule rule;
  bool mirror;                                                 // left to right
  int64_t height, width, channels;                             // of the image
  int64_t new_height, new_width;                               // of the result
  double scale;                                                // > 0 and finite; kSimpleDet alone reads it
  int64_t window_top, window_left, window_height, window_width;  // the part of the result that is wanted
  int64_t canvas_height, canvas_width;
  int64_t place_top, place_left;  // of the window on the canvas
  const uint8_t* image;           // [height, width, channels]
  const uint8_t* fill;            // [channels]: of the canvas beside the window
  void* canvas;                   // [canvas_height, canvas_width, channels], uint8; float32 with kTorchvision
};

// The result is the same, bit for bit, however `parallel_for` splits its ranges, and with every instruction set.
void FitImageCpu(const FitImageArgs& args, const ParallelFor& parallel_for);

}  // namespace tfdet
