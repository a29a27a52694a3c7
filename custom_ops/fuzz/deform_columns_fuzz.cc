#include <cmath>

#include "custom_ops/c_api/threads.h"
#include "custom_ops/fuzz/fuzz.h"
#include "custom_ops/kernels/deform_columns.h"

namespace tfdet {
namespace fuzz {
namespace {

DeformShape Shape(Random& random) {
  const auto one_of = [&random](std::initializer_list<int64_t> values) {
    return static_cast<int32_t>(random.OneOf<int64_t>(values));
  };
  DeformShape shape;
  shape.batch = random.Integer(0, 2);
  shape.height = one_of({0, 1, 2, random.Integer(0, 12)});
  shape.width = one_of({0, 1, 2, random.Integer(0, 12)});
  shape.groups = one_of({1, 1, 2, 3});
  shape.offset_groups = one_of({1, 1, 2, 4});
  shape.channels = shape.groups * shape.offset_groups * one_of({0, 1, 3, 8, 11});
  shape.kernel_y = one_of({1, 3, 3, random.Integer(1, 5)});
  shape.kernel_x = one_of({1, 3, 3, random.Integer(1, 5)});
  shape.stride_y = one_of({1, 2, 7});
  shape.stride_x = one_of({1, 2, 7});
  shape.padding_y = one_of({0, 1, 4});
  shape.padding_x = one_of({0, 1, 4});
  shape.dilation_y = one_of({1, 2, 5});
  shape.dilation_x = one_of({1, 2, 5});
  SetDeformOutput(&shape);
  return shape;
}

// Forward with so many threads, and the gradients of what it gave. Results are of exactly the size that may be touched.
template <typename T>
struct Results {
  std::vector<T> columns, for_inputs;
  std::vector<float> for_offsets, for_mask;

  Results(const DeformShape& shape, const std::vector<T>& inputs, const std::vector<float>& offsets,
          const std::vector<float>& mask, bool masked, int threads)
      : columns(shape.columns()), for_inputs(inputs.size()), for_offsets(offsets.size(), -7),
        for_mask(mask.size(), -7) {
    const float* factors = masked ? mask.data() : nullptr;
    DeformColumnsCpu<T>(shape, inputs.data(), offsets.data(), factors, columns.data(), Threads(threads));
    DeformColumnsGradCpu<T>(shape, columns.data(), inputs.data(), offsets.data(), factors, for_inputs.data(),
                            for_offsets.data(), masked ? for_mask.data() : nullptr, Threads(threads));
  }
};

template <typename T>
void FuzzType(Random& random) {
  const DeformShape shape = Shape(random);
  FUZZ_CHECK(DeformError(shape) == nullptr);
  const double odd = random.OneOf({0.0, 0.0, 0.1}), odd_moves = random.OneOf({0.0, 0.05, 0.5});
  const double reach = random.OneOf({0.0, 1.0, 5.0, 1e4, 1e30});
  const bool whole = random.Chance(0.3), masked = random.Chance(0.5);
  std::vector<T> inputs(shape.inputs());
  for (T& v : inputs) v = FromFloat<T>(random.Coordinate(1.0, odd));
  std::vector<float> offsets(2 * shape.samples()), mask(masked ? shape.samples() : 0);
  for (float& v : offsets) {
    v = random.Coordinate(2 * reach, odd_moves) - static_cast<float>(reach);
    if (whole) v = std::floor(v);
  }
  for (float& v : mask) v = random.Coordinate(1.0, odd);

  const Results<T> one(shape, inputs, offsets, mask, masked, 1), three(shape, inputs, offsets, mask, masked, 3);
  FUZZ_CHECK(SameBits(one.columns, three.columns));
  FUZZ_CHECK(SameBits(one.for_inputs, three.for_inputs));
  FUZZ_CHECK(SameBits(one.for_offsets, three.for_offsets));
  FUZZ_CHECK(SameBits(one.for_mask, three.for_mask));
  if (odd > 0) return;
  // Inputs and masks between -0.1 and 1: so are the columns, and every gradient is a number whatever the offsets are.
  for (const T& v : one.columns) FUZZ_CHECK(ToFloat(v) > -0.11f && ToFloat(v) < 1.01f);
  for (const T& v : one.for_inputs) FUZZ_CHECK(std::isfinite(ToFloat(v)));
  for (float v : one.for_offsets) FUZZ_CHECK(std::isfinite(v));
  for (float v : one.for_mask) FUZZ_CHECK(std::isfinite(v));
}

void FuzzDeformColumns(Random& random) {
  switch (random.Integer(0, 2)) {
    case 0: return FuzzType<float>(random);
    case 1: return FuzzType<Half16>(random);
    default: return FuzzType<BFloat16>(random);
  }
}

const FuzzCase fuzz_case("deform_columns", FuzzDeformColumns);

}  // namespace
}  // namespace fuzz
}  // namespace tfdet
