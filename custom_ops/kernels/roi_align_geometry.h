// Where RoIAlign samples along one axis; for the CPU and for CUDA, with the same bits (no fused multiply-add in either).
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "custom_ops/kernels/host_device.h"
#include "custom_ops/kernels/roi_align.h"

namespace tfdet {

// A sample of maximum mode: two pixels and the share of the second.
struct AxisSample {
  int32_t low, high;
  float weight;
};

// A pixel and its weight in a bin's mean. Samples and pixels both factor into y and x, and so does the mean: the weights
// of the samples that touch a pixel are added up before any feature is read.
struct AxisTap {
  int32_t index;
  float weight;
};

// One side of a RoI in feature pixels.
struct AxisRange {
  float begin, extent;
};

TFDET_HOST_DEVICE float AtLeast(float value, float bound) { return value < bound ? bound : value; }
TFDET_HOST_DEVICE float AtMost(float value, float bound) { return value > bound ? bound : value; }

// false: not a finite range, which has no samples.
TFDET_HOST_DEVICE bool RangeOf(const RoiAlignShape& shape, float begin, float end, float scale,
                                      AxisRange* range) {
  begin = begin * scale;
  end = end * scale;
  if (!shape.maximum && shape.aligned) {
    begin = begin - 0.5f;
    end = end - 0.5f;
  }
  range->begin = begin;
  range->extent = end - begin;
  if (!(range->extent >= -FLT_MAX && range->extent <= FLT_MAX)) return false;
  if (!shape.maximum && !shape.aligned) range->extent = AtLeast(range->extent, 1.0f);
  return true;
}

// SimpleDet's loop: from a third of the bin (clamped to the map) on, by thirds or 0.01 of a pixel, compared in double.
// That is two samples, or three where the third is 0.01 to the last bit. Returns their number, 0 for an empty bin.
TFDET_HOST_DEVICE int MaximumSamples(AxisRange range, int size, int bins, int bin, AxisSample* samples) {
  const float length = range.extent / float(bins), last = float(size - 1);
  const float lower = AtLeast(AtMost(float(bin) * length + range.begin, last), 0.0f);
  const float upper = AtLeast(AtMost(float(bin + 1) * length + range.begin, last), 0.0f);
  if (!(upper > lower)) return 0;
  const float step = (upper - lower) / 3.0f, advance = AtLeast(step, 0.01f);
  const double limit = double(upper - step) + 0.01;
  float position = lower + step;
  int count = 0;
  for (; count < 3 && double(position) <= limit; ++count, position = position + advance) {
    const int border = size - 1;
    int low = int(floorf(position)), high = int(ceilf(position));
    low = low < border ? low : border;
    high = high < border ? high : border;
    samples[count].low = low;
    samples[count].high = high;
    samples[count].weight = low == high ? 0.5f : position - float(low);
  }
  return count;
}

// Samples a side of a bin in average mode.
TFDET_HOST_DEVICE int SamplesPerBin(const RoiAlignShape& shape, AxisRange range, int bins) {
  if (shape.sampling_ratio > 0) return shape.sampling_ratio;
  const float count = ceilf(range.extent / float(bins));
  return count > 0 ? int(AtMost(count, float(kRoiAlignRatio))) : 0;
}

// The pixels of one bin in average mode, at most 2 * count, times `share`. Samples outside the map count for nothing.
TFDET_HOST_DEVICE int AverageTaps(AxisRange range, int size, int bins, int bin, int count, float share,
                                         AxisTap* taps) {
  const float length = range.extent / float(bins), start = range.begin + float(bin) * length;
  int found = 0;
  for (int s = 0; s < count && size > 0; ++s) {
    float position = start + (float(s) + 0.5f) * length / float(count);
    if (!(position >= -1.0f && position <= float(size))) continue;
    position = AtMost(AtLeast(position, 0.0f), float(size - 1));
    const int low = int(position), high = low + 1 < size ? low + 1 : low;
    const float weight = position - float(low);
    const int index[2] = {low, high};
    const float part[2] = {1.0f - weight, weight};
    for (int k = 0; k < 2; ++k) {
      // Samples ascend: only the last two pixels can come again.
      int t = found;
      if (found > 0 && taps[found - 1].index == index[k]) t = found - 1;
      else if (found > 1 && taps[found - 2].index == index[k]) t = found - 2;
      if (t == found) {
        taps[found].index = index[k];
        taps[found++].weight = part[k];
      } else {
        taps[t].weight += part[k];
      }
    }
  }
  for (int t = 0; t < found; ++t) taps[t].weight *= share;
  return found;
}

}  // namespace tfdet
