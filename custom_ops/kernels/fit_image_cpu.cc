#include "custom_ops/kernels/fit_image.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "custom_ops/kernels/fit_rows.h"

namespace tfdet {
namespace {

// Source: the taps of tfdet/data/resize.py and pillow_resize.py, in their types and order of operations.
constexpr int kWeightBits = 22;

// One axis of the resize, and the part of its result that is wanted.
struct Axis {
  int64_t size, new_size, first, count;
};

Axis Rows(const FitImageArgs& args) {
  return {args.height, args.new_height, args.window_top, args.window_height};
}

Axis Columns(const FitImageArgs& args) {
  return {args.width, args.new_width, args.window_left, args.window_width};
}

template <typename Real>
void AddTaps(Real source, int64_t size, LinearTaps* taps) {
  source = std::min(std::max(source, Real(0)), static_cast<Real>(size - 1));
  const Real low = std::floor(source);
  const int64_t first = static_cast<int64_t>(low);
  taps->first.push_back(static_cast<int32_t>(first));
  taps->second.push_back(static_cast<int32_t>(std::min(first + 1, size - 1)));
  taps->weight.push_back(static_cast<float>(source - low));
}

LinearTaps LinearTapsOf(const Axis& axis, const FitImageArgs& args) {
  LinearTaps taps;
  const float ratio = static_cast<float>(axis.size) / static_cast<float>(axis.new_size);
  for (int64_t i = axis.first; i < axis.first + axis.count; ++i) {
    if (args.rule == ResizeRule::kSimpleDet)
      AddTaps((static_cast<double>(i) + 0.5) / args.scale - 0.5, axis.size, &taps);
    else
      AddTaps(ratio * (static_cast<float>(i) + 0.5f) - 0.5f, axis.size, &taps);
  }
  return taps;
}

// Pillow, src/libImaging/Resample.c, precompute_coeffs and normalize_coeffs_8bpc, of a triangle.
WeightedTaps WeightedTapsOf(const Axis& axis) {
  WeightedTaps taps;
  const double scale = static_cast<double>(axis.size) / static_cast<double>(axis.new_size);
  const double support = std::max(scale, 1.0), inverse = 1.0 / support;
  std::vector<int32_t> ends;
  for (int64_t i = axis.first; i < axis.first + axis.count; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int64_t begin = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const int64_t end = std::min(static_cast<int64_t>(center + support + 0.5), axis.size);
    taps.begin.push_back(static_cast<int32_t>(begin));
    ends.push_back(static_cast<int32_t>(end));
    taps.taps = std::max(taps.taps, static_cast<int>(end - begin));
  }
  taps.weight.resize(taps.begin.size() * taps.taps);
  std::vector<double> weights(taps.taps);
  for (size_t i = 0; i < taps.begin.size(); ++i) {
    const double center = (static_cast<double>(axis.first + static_cast<int64_t>(i)) + 0.5) * scale;
    const int32_t own = ends[i] - taps.begin[i];
    double sum = 0;
    for (int32_t k = 0; k < own; ++k) {
      const double distance = std::abs((static_cast<double>(taps.begin[i] + k) - center + 0.5) * inverse);
      sum += weights[k] = std::max(1.0 - distance, 0.0);
    }
    // At the end of the source the taps begin earlier instead of reading beyond it.
    const int32_t begin = static_cast<int32_t>(std::min<int64_t>(taps.begin[i], axis.size - taps.taps));
    int32_t* whole = &taps.weight[i * taps.taps] + (taps.begin[i] - begin);
    for (int32_t k = 0; k < own; ++k)
      whole[k] = static_cast<int32_t>(weights[k] / sum * (1 << kWeightBits) + 0.5);
    taps.begin[i] = begin;
  }
  return taps;
}

// The same of a window that is mirrored.
WeightedTaps Reversed(const WeightedTaps& taps) {
  WeightedTaps reversed = taps;
  std::reverse(reversed.begin.begin(), reversed.begin.end());
  const size_t count = taps.begin.size(), each = taps.taps;
  for (size_t i = 0; i < count; ++i)
    std::copy_n(&taps.weight[i * each], each, &reversed.weight[(count - 1 - i) * each]);
  return reversed;
}

// Writers of the rows of a window. There is one for each range of rows, as it keeps what it has resized.

// Keeps a source row and the next, resized: of two neighbours one has an even number.
template <typename Pixel>
class LinearWriter {
 public:
  LinearWriter(const FitImageArgs& args, const LinearTaps& rows, const LinearColumns& columns)
      : args_(args), rows_(rows), columns_(columns), values_(args.window_width * args.channels) {
    for (auto& row : resized_) row.resize(values_ + 2 * kRowPadding);
  }

  void Row(int64_t row, Pixel* out) {
    const float* top = Resized(rows_.first[row]);
    Between(top, Resized(rows_.second[row]), rows_.weight[row], values_, out);
  }

 private:
  const float* Resized(int32_t source) {
    const int slot = source & 1;
    if (kept_[slot] != source) {
      columns_.Resize(args_.image + source * args_.width * args_.channels, resized_[slot].data());
      kept_[slot] = source;
    }
    return resized_[slot].data();
  }

  const FitImageArgs& args_;
  const LinearTaps& rows_;
  const LinearColumns& columns_;
  const int64_t values_;
  std::vector<float> resized_[2];
  int32_t kept_[2] = {-1, -1};
};

// Along rows first. Keeps as many source rows, resized, as one row of the result needs.
class RowsFirstWriter {
 public:
  RowsFirstWriter(const FitImageArgs& args, const WeightedTaps& rows, const WeightedColumns& columns)
      : args_(args), rows_(rows), columns_(columns), values_(args.window_width * args.channels),
        resized_(rows.taps * values_), kept_(rows.taps, -1), taps_(rows.taps) {}

  void Row(int64_t row, uint8_t* out) {
    for (int k = 0; k < rows_.taps; ++k) {
      const int32_t source = rows_.begin[row] + k;
      const int32_t slot = source % rows_.taps;
      uint8_t* resized = resized_.data() + slot * values_;
      if (kept_[slot] != source) {
        columns_.Resize(args_.image + source * args_.width * args_.channels, resized);
        kept_[slot] = source;
      }
      taps_[k] = resized;
    }
    WeightedRows(taps_.data(), &rows_.weight[row * rows_.taps], rows_.taps, values_, out);
  }

 private:
  const FitImageArgs& args_;
  const WeightedTaps& rows_;
  const WeightedColumns& columns_;
  const int64_t values_;
  std::vector<uint8_t> resized_;
  std::vector<int32_t> kept_;
  std::vector<const uint8_t*> taps_;
};

class ColumnsFirstWriter {
 public:
  ColumnsFirstWriter(const FitImageArgs& args, const WeightedTaps& rows, const WeightedColumns& columns)
      : args_(args), rows_(rows), columns_(columns), merged_(args.width * args.channels), taps_(rows.taps) {}

  void Row(int64_t row, uint8_t* out) {
    const int64_t stride = args_.width * args_.channels;
    for (int k = 0; k < rows_.taps; ++k) taps_[k] = args_.image + (rows_.begin[row] + k) * stride;
    WeightedRows(taps_.data(), &rows_.weight[row * rows_.taps], rows_.taps, stride, merged_.data());
    columns_.Resize(merged_.data(), out);
  }

 private:
  const FitImageArgs& args_;
  const WeightedTaps& rows_;
  const WeightedColumns& columns_;
  std::vector<uint8_t> merged_;
  std::vector<const uint8_t*> taps_;
};

// Runs over the rows of the canvas. `make_writer` returns the writer of a range.
template <typename Pixel, typename MakeWriter>
void WriteCanvas(const FitImageArgs& args, const ParallelFor& parallel_for, const MakeWriter& make_writer) {
  const int64_t channels = args.channels, stride = args.canvas_width * channels;
  const int64_t left = args.place_left * channels, values = args.window_width * channels;
  std::vector<Pixel> blank(stride);
  for (int64_t i = 0; i < stride; ++i) blank[i] = static_cast<Pixel>(args.fill[i % channels]);
  parallel_for(args.canvas_height, 4 * stride, [&](int64_t begin, int64_t end) {
    auto writer = make_writer();
    for (int64_t y = begin; y < end; ++y) {
      Pixel* out = static_cast<Pixel*>(args.canvas) + y * stride;
      const int64_t row = y - args.place_top;
      if (row < 0 || row >= args.window_height || values == 0) {
        std::copy_n(blank.data(), stride, out);
        continue;
      }
      std::copy_n(blank.data(), left, out);
      writer.Row(row, out + left);
      std::copy_n(blank.data() + left + values, stride - left - values, out + left + values);
    }
  });
}

template <typename Pixel>
void FitLinear(const FitImageArgs& args, const ParallelFor& parallel_for) {
  const LinearTaps rows = LinearTapsOf(Rows(args), args);
  LinearTaps taps = LinearTapsOf(Columns(args), args);
  if (args.mirror)
    for (auto* pixels : {&taps.first, &taps.second})
      for (int32_t& pixel : *pixels) pixel = static_cast<int32_t>(args.width - 1) - pixel;
  const LinearColumns columns(std::move(taps), args.width, args.channels);
  WriteCanvas<Pixel>(args, parallel_for, [&] { return LinearWriter<Pixel>(args, rows, columns); });
}

void FitAsPillow(const FitImageArgs& args, const ParallelFor& parallel_for) {
  const WeightedTaps rows = WeightedTapsOf(Rows(args));
  WeightedTaps taps = WeightedTapsOf(Columns(args));
  if (args.mirror) taps = Reversed(taps);
  const WeightedColumns columns(std::move(taps), args.width, args.channels);
  const int64_t rows_lost = args.height - args.new_height, columns_lost = args.width - args.new_width;
  if (rows_lost > 0 && rows_lost > 2 * columns_lost)
    WriteCanvas<uint8_t>(args, parallel_for, [&] { return ColumnsFirstWriter(args, rows, columns); });
  else
    WriteCanvas<uint8_t>(args, parallel_for, [&] { return RowsFirstWriter(args, rows, columns); });
}

}  // namespace

void FitImageCpu(const FitImageArgs& args, const ParallelFor& parallel_for) {
  switch (args.rule) {
    case ResizeRule::kSimpleDet: return FitLinear<uint8_t>(args, parallel_for);
    case ResizeRule::kDetectron2: return FitAsPillow(args, parallel_for);
    case ResizeRule::kTorchvision: return FitLinear<float>(args, parallel_for);
  }
}

}  // namespace tfdet
