#include "custom_ops/c_api/threads.h"
#include "custom_ops/fuzz/fuzz.h"
#include "custom_ops/kernels/roi_align.h"

namespace tfdet {
namespace fuzz {
namespace {

RoiAlignShape Shape(Random& random) {
  RoiAlignShape shape;
  shape.batch = random.Integer(0, 2);
  shape.rois = random.OneOf<int64_t>({0, 1, random.Integer(0, 20)});
  shape.channels = static_cast<int32_t>(random.OneOf<int64_t>({0, 1, 7, 8, 16, 33}));
  shape.num_levels = static_cast<int32_t>(random.Integer(1, 4));
  shape.bins_y = static_cast<int32_t>(random.OneOf<int64_t>({1, 2, 7}));
  shape.bins_x = static_cast<int32_t>(random.OneOf<int64_t>({1, 3, 7}));
  shape.maximum = random.Chance(0.5);
  shape.sampling_ratio = static_cast<int32_t>(random.OneOf<int64_t>({0, 1, 2, 3}));
  shape.aligned = random.Chance(0.5);
  for (int l = 0; l < shape.num_levels; ++l) {
    shape.height[l] = static_cast<int32_t>(random.OneOf<int64_t>({0, 1, 2, random.Integer(0, 20)}));
    shape.width[l] = static_cast<int32_t>(random.OneOf<int64_t>({0, 1, 2, random.Integer(0, 20)}));
    shape.scale[l] = random.OneOf({0.25f, 1.0f, 1.0f / 64, 1e-30f, 1e30f});
  }
  return shape;
}

// Forward with so many threads, and the gradient of what it gave.
template <typename T>
struct Results {
  std::vector<T> pooled;
  std::vector<uint8_t> winner;
  std::vector<std::vector<T>> gradients;

  Results(const RoiAlignShape& shape, const std::vector<std::vector<T>>& maps, const std::vector<float>& boxes,
          const std::vector<int32_t>& levels, int threads)
      : pooled(shape.values()), winner(shape.maximum ? shape.values() : 0) {
    std::vector<const T*> features;
    std::vector<T*> targets;
    for (const auto& map : maps) {
      features.push_back(map.data());
      gradients.emplace_back(map.size());
    }
    for (auto& gradient : gradients) targets.push_back(gradient.data());
    RoiAlignCpu<T>(shape, features.data(), boxes.data(), levels.data(), pooled.data(), winner.data(),
                   Threads(threads));
    RoiAlignGradCpu<T>(shape, pooled.data(), winner.data(), boxes.data(), levels.data(), targets.data(),
                       Threads(threads));
  }
};

template <typename T>
void FuzzType(Random& random) {
  const RoiAlignShape shape = Shape(random);
  FUZZ_CHECK(RoiAlignError(shape) == nullptr);
  const double odd = random.OneOf({0.0, 0.0, 0.1});
  std::vector<std::vector<T>> maps(shape.num_levels);
  for (int l = 0; l < shape.num_levels; ++l) {
    maps[l].resize(shape.map_values(l));
    for (T& v : maps[l]) v = FromFloat<T>(random.Coordinate(1.0, odd));
  }
  const auto boxes = random.Boxes(shape.batch * shape.rois);
  std::vector<int32_t> levels(shape.batch * shape.rois);
  for (int32_t& level : levels) level = static_cast<int32_t>(random.Integer(0, shape.num_levels - 1));

  const Results<T> one(shape, maps, boxes, levels, 1), three(shape, maps, boxes, levels, 3);
  FUZZ_CHECK(SameBits(one.pooled, three.pooled));
  FUZZ_CHECK(SameBits(one.winner, three.winner));
  for (int l = 0; l < shape.num_levels; ++l) FUZZ_CHECK(SameBits(one.gradients[l], three.gradients[l]));
  for (uint8_t winner : one.winner) FUZZ_CHECK(winner < 9 || winner == kRoiAlignNoWinner);
  if (odd > 0) return;
  // Features between -0.1 and 1 and weights that sum to at most 1: so are the results, rounded.
  for (const T& v : one.pooled) FUZZ_CHECK(ToFloat(v) > -0.11f && ToFloat(v) < 1.01f);
}

void FuzzRoiAlign(Random& random) {
  switch (random.Integer(0, 2)) {
    case 0: return FuzzType<float>(random);
    case 1: return FuzzType<Half16>(random);
    default: return FuzzType<BFloat16>(random);
  }
}

const FuzzCase fuzz_case("roi_align", FuzzRoiAlign);

}  // namespace
}  // namespace fuzz
}  // namespace tfdet
