#include "custom_ops/kernels/deform_columns.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "custom_ops/kernels/channel_rows.h"
#include "custom_ops/kernels/deform_geometry.h"
#include "custom_ops/kernels/flush_subnormals.h"

namespace tfdet {
namespace {

constexpr int64_t kCachedValues = 1 << 19;  // 2 MB of sums

const float* AsFloat(const float* values, int64_t, std::vector<float>*, const ParallelFor&) { return values; }

template <typename T>
const float* AsFloat(const T* values, int64_t count, std::vector<float>* buffer, const ParallelFor& parallel_for) {
  buffer->resize(count);
  parallel_for(count, 2, [&](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    RowToFloat(values + begin, end - begin, buffer->data() + begin);
  });
  return buffer->data();
}

void Store(const float* row, int64_t count, float* out) { std::memcpy(out, row, count * sizeof(float)); }
template <typename T>
void Store(const float* row, int64_t count, T* out) {
  RowFromFloat(row, count, out);
}
void Load(const float* row, int64_t count, float* out) { std::memcpy(out, row, count * sizeof(float)); }
template <typename T>
void Load(const T* row, int64_t count, float* out) {
  RowToFloat(row, count, out);
}

// The rows of all channels of (image, output pixel, tap) in the columns: where they are when they lie together as
// floats, else gathered from the groups, or spread over them, through a buffer.
template <typename T>
class ColumnRows {
 public:
  ColumnRows(const DeformShape& shape) : shape_(shape), width_(shape.channels / shape.groups), buffer_(shape.channels) {}

  const float* Get(const T* columns, int64_t image, int64_t pixel, int tap) {
    if constexpr (std::is_same<T, float>::value)
      if (shape_.groups == 1) return columns + At(image, pixel, tap, 0);
    for (int g = 0; g < shape_.groups; ++g)
      Load(columns + At(image, pixel, tap, g), width_, buffer_.data() + g * width_);
    return buffer_.data();
  }

  float* Place(T* columns, int64_t image, int64_t pixel, int tap) {
    if constexpr (std::is_same<T, float>::value)
      if (shape_.groups == 1) return columns + At(image, pixel, tap, 0);
    return buffer_.data();
  }

  void Put(T* columns, int64_t image, int64_t pixel, int tap) {
    if constexpr (std::is_same<T, float>::value)
      if (shape_.groups == 1) return;
    for (int g = 0; g < shape_.groups; ++g)
      Store(buffer_.data() + g * width_, width_, columns + At(image, pixel, tap, g));
  }

 private:
  int64_t At(int64_t image, int64_t pixel, int tap, int group) const {
    return (((image * shape_.groups + group) * shape_.pixels() + pixel) * shape_.taps() + tap) * width_;
  }

  const DeformShape& shape_;
  const int64_t width_;
  std::vector<float> buffer_;
};

// A sample and the rows of its four pixels; a pixel that does not exist is a row of zeros.
struct Corners {
  DeformSample sample;
  int64_t index;  // among all samples
  float factor;
  const float* rows[4];
};

class Sampler {
 public:
  Sampler(const DeformShape& shape, const float* inputs, const float* offsets, const float* mask)
      : shape_(shape), inputs_(inputs), offsets_(offsets), mask_(mask), width_(shape.channels / shape.offset_groups),
        zeros_(width_) {}

  int64_t width() const { return width_; }  // channels of an offset group

  DeformSample Sample(int64_t image, int32_t out_y, int32_t out_x, int tap, int group, int64_t* index) const {
    const int64_t pixel = (image * shape_.out_y + out_y) * shape_.out_x + out_x;
    *index = (pixel * shape_.offset_groups + group) * shape_.taps() + tap;
    return DeformSampleAt(shape_, out_y, out_x, tap, offsets_ + 2 * *index);
  }

  float Factor(int64_t index) const { return mask_ == nullptr ? 1.0f : mask_[index]; }

  Corners At(int64_t image, int32_t out_y, int32_t out_x, int tap, int group) const {
    Corners corners;
    corners.sample = Sample(image, out_y, out_x, tap, group, &corners.index);
    corners.factor = Factor(corners.index);
    const float* map = inputs_ + image * shape_.height * shape_.width * int64_t(shape_.channels) + group * width_;
    for (int k = 0; k < 4; ++k)
      corners.rows[k] = corners.sample.exists[k] ? map + corners.sample.Pixel(k, shape_.width) * shape_.channels
                                                 : zeros_.data();
    return corners;
  }

 private:
  const DeformShape& shape_;
  const float *inputs_, *offsets_, *mask_;
  const int64_t width_;
  const std::vector<float> zeros_;
};

// The lines of the input that the samples of a tap along a line of the output touch.
struct Lines {
  int32_t begin, end;
};

// Cycles for a line of the output, roughly.
int64_t CostOf(const DeformShape& shape) {
  return int64_t(shape.out_x) * shape.taps() * (50 * int64_t(shape.offset_groups) + shape.channels);
}

// Gradients of offsets and mask for a line of the output, and which lines of the input its taps touch.
template <typename T>
void LineGradients(const DeformShape& shape, const Sampler& sampler, const T* upstream, int64_t line,
                   ColumnRows<T>* columns, float* for_offsets, float* for_mask, Lines* touched) {
  const int64_t image = line / shape.out_y;
  const int32_t out_y = int32_t(line % shape.out_y);
  for (int tap = 0; tap < shape.taps(); ++tap) touched[tap] = {shape.height, 0};
  for (int32_t out_x = 0; out_x < shape.out_x; ++out_x)
    for (int tap = 0; tap < shape.taps(); ++tap) {
      const float* row = columns->Get(upstream, image, int64_t(out_y) * shape.out_x + out_x, tap);
      for (int g = 0; g < shape.offset_groups; ++g) {
        const Corners corners = sampler.At(image, out_y, out_x, tap, g);
        const DeformSample& sample = corners.sample;
        float products[4] = {};
        if (sample.Any()) {
          FourProducts(row + g * sampler.width(), corners.rows, sampler.width(), products);
          touched[tap].begin = std::min(touched[tap].begin, std::max(sample.low_y, 0));
          touched[tap].end = std::max(touched[tap].end, std::min(sample.low_y + 2, shape.height));
        }
        for_offsets[2 * corners.index] = corners.factor * sample.SlopeY(products);
        for_offsets[2 * corners.index + 1] = corners.factor * sample.SlopeX(products);
        if (for_mask == nullptr) continue;
        float value = 0;
        for (int k = 0; k < 4; ++k) value += sample.Weight(k) * products[k];
        for_mask[corners.index] = value;
      }
    }
}

// Adds what a line of the output gives to lines [from, to) of its image, the first of which is at `sums`.
template <typename T>
void AddLine(const DeformShape& shape, const Sampler& sampler, const T* upstream, int64_t image, int32_t out_y,
             const std::vector<int>& taps, ColumnRows<T>* columns, int32_t from, int32_t to, float* sums) {
  for (int32_t out_x = 0; out_x < shape.out_x; ++out_x)
    for (const int tap : taps) {
      const float* row = nullptr;
      for (int g = 0; g < shape.offset_groups; ++g) {
        int64_t index;
        const DeformSample sample = sampler.Sample(image, out_y, out_x, tap, g, &index);
        float* rows[4];
        float weights[4];
        int count = 0;
        for (int k = 0; k < 4; ++k) {
          const int32_t y = sample.low_y + (k & 1);
          if (!sample.exists[k] || y < from || y >= to) continue;
          rows[count] = sums + (sample.Pixel(k, shape.width) - int64_t(from) * shape.width) * shape.channels +
                        g * sampler.width();
          weights[count++] = sampler.Factor(index) * sample.Weight(k);
        }
        if (count == 0) continue;
        if (row == nullptr) row = columns->Get(upstream, image, int64_t(out_y) * shape.out_x + out_x, tap);
        AddToRows(rows, weights, count, sampler.width(), row + g * sampler.width());
      }
    }
}

// Where the sums of a part of a gradient are made: in place, or in a buffer if its type is too coarse.
float* SumsFor(float* gradient, int64_t, std::vector<float>*) { return gradient; }
template <typename T>
float* SumsFor(T*, int64_t values, std::vector<float>* buffer) {
  buffer->resize(std::max<size_t>(buffer->size(), values));
  return buffer->data();
}

}  // namespace

template <typename T>
void DeformColumnsCpu(const DeformShape& shape, const T* inputs, const float* offsets, const float* mask, T* columns,
                      const ParallelFor& parallel_for) {
  if (shape.columns() == 0) return;
  std::vector<float> buffer;
  const float* maps = AsFloat(inputs, shape.inputs(), &buffer, parallel_for);
  parallel_for(shape.batch * shape.out_y, CostOf(shape), [&](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    const Sampler sampler(shape, maps, offsets, mask);
    ColumnRows<T> rows(shape);
    for (int64_t line = begin; line < end; ++line) {
      const int64_t image = line / shape.out_y;
      const int32_t out_y = int32_t(line % shape.out_y);
      for (int32_t out_x = 0; out_x < shape.out_x; ++out_x)
        for (int tap = 0; tap < shape.taps(); ++tap) {
          const int64_t pixel = int64_t(out_y) * shape.out_x + out_x;
          float* row = rows.Place(columns, image, pixel, tap);
          for (int g = 0; g < shape.offset_groups; ++g) {
            const Corners corners = sampler.At(image, out_y, out_x, tap, g);
            float weights[4];
            for (int k = 0; k < 4; ++k) weights[k] = corners.factor * corners.sample.Weight(k);
            if (corners.sample.Any())
              WeightedSum(corners.rows, weights, 4, false, sampler.width(), row + g * sampler.width());
            else
              std::fill_n(row + g * sampler.width(), sampler.width(), corners.factor * 0.0f);  // NaN if the mask is
          }
          rows.Put(columns, image, pixel, tap);
        }
    }
  });
}

template <typename T>
void DeformColumnsGradCpu(const DeformShape& shape, const T* upstream, const T* inputs, const float* offsets,
                          const float* mask, T* for_inputs, float* for_offsets, float* for_mask,
                          const ParallelFor& parallel_for) {
  if (shape.columns() == 0) {
    std::fill_n(for_inputs, shape.inputs(), FromFloat<T>(0.0f));
    std::fill_n(for_offsets, 2 * shape.samples(), 0.0f);
    if (for_mask != nullptr) std::fill_n(for_mask, shape.samples(), 0.0f);
    return;
  }
  std::vector<float> buffer;
  const float* maps = AsFloat(inputs, shape.inputs(), &buffer, parallel_for);
  const int taps = shape.taps();
  std::vector<Lines> touched(shape.batch * shape.out_y * taps);
  parallel_for(shape.batch * shape.out_y, CostOf(shape), [&](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    const Sampler sampler(shape, maps, offsets, mask);
    ColumnRows<T> rows(shape);
    for (int64_t line = begin; line < end; ++line)
      LineGradients(shape, sampler, upstream, line, &rows, for_offsets, for_mask, &touched[line * taps]);
  });

  // A thread owns lines of the input and takes the output in its order, so every sum has one order. It does so for as
  // many lines at a time as stay in its cache.
  const int64_t line_values = int64_t(shape.width) * shape.channels;
  const int64_t step = std::max<int64_t>(1, kCachedValues / std::max<int64_t>(line_values, 1));
  const int64_t cost = 1000 + CostOf(shape) * shape.out_y / std::max(shape.height, 1);
  parallel_for(shape.batch * shape.height, cost, [&](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    const Sampler sampler(shape, maps, offsets, mask);
    ColumnRows<T> rows(shape);
    std::vector<float> sums_buffer;
    std::vector<int> near;
    while (begin < end) {
      const int64_t image = begin / shape.height;
      const int32_t from = int32_t(begin % shape.height);
      const int32_t to = int32_t(std::min({from + step, from + (end - begin), int64_t(shape.height)}));
      const int64_t values = (to - from) * line_values;
      T* gradient = for_inputs + begin * line_values;
      float* sums = SumsFor(gradient, values, &sums_buffer);
      std::fill_n(sums, values, 0.0f);
      for (int32_t out_y = 0; out_y < shape.out_y; ++out_y) {
        const Lines* lines = &touched[(image * shape.out_y + out_y) * taps];
        near.clear();
        for (int tap = 0; tap < taps; ++tap)
          if (lines[tap].begin < to && lines[tap].end > from) near.push_back(tap);
        if (!near.empty()) AddLine(shape, sampler, upstream, image, out_y, near, &rows, from, to, sums);
      }
      if constexpr (!std::is_same<T, float>::value) RowFromFloat(sums, values, gradient);
      begin += to - from;
    }
  });
}

#define TFDET_INSTANTIATE(T)                                                                                       \
  template void DeformColumnsCpu<T>(const DeformShape&, const T*, const float*, const float*, T*,                   \
                                    const ParallelFor&);                                                           \
  template void DeformColumnsGradCpu<T>(const DeformShape&, const T*, const T*, const float*, const float*, T*,     \
                                        float*, float*, const ParallelFor&);
TFDET_INSTANTIATE(float)
TFDET_INSTANTIATE(Half16)
TFDET_INSTANTIATE(BFloat16)
#undef TFDET_INSTANTIATE

}  // namespace tfdet
