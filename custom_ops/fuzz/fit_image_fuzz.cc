#include <algorithm>
#include <cmath>

#include "custom_ops/c_api/threads.h"
#include "custom_ops/fuzz/fuzz.h"
#include "custom_ops/kernels/fit_image.h"

namespace tfdet {
namespace fuzz {
namespace {

// Of exactly the size that the kernel may touch.
template <typename Pixel>
std::vector<Pixel> Call(FitImageArgs args, int threads) {
  std::vector<Pixel> canvas(args.canvas_height * args.canvas_width * args.channels, Pixel(7));
  args.canvas = canvas.data();
  FitImageCpu(args, Threads(threads));
  return canvas;
}

// Of a part of `size`: where it begins, and how long it is.
void Part(Random& random, int64_t size, int64_t* first, int64_t* count) {
  *first = random.Chance(0.5) ? 0 : random.Integer(0, size);
  *count = random.Chance(0.5) ? size - *first : random.Integer(0, size - *first);
}

template <typename Pixel>
void Check(const FitImageArgs& args, uint8_t low, uint8_t high) {
  const auto one = Call<Pixel>(args, 1), three = Call<Pixel>(args, 3);
  FUZZ_CHECK(SameBits(one, three));
  for (int64_t y = 0; y < args.canvas_height; ++y)
    for (int64_t x = 0; x < args.canvas_width; ++x)
      for (int64_t c = 0; c < args.channels; ++c) {
        const int64_t row = y - args.place_top, column = x - args.place_left;
        const bool inside = row >= 0 && row < args.window_height && column >= 0 && column < args.window_width;
        const Pixel value = one[(y * args.canvas_width + x) * args.channels + c];
        // A mean of pixels lies between them; what is beside the window is filled.
        if (inside) FUZZ_CHECK(value >= low - 0.01 && value <= high + 0.01);
        if (!inside) FUZZ_CHECK(value == args.fill[c]);
      }
}

void FuzzFitImage(Random& random) {
  FitImageArgs args;
  args.rule = random.OneOf({ResizeRule::kSimpleDet, ResizeRule::kDetectron2, ResizeRule::kTorchvision});
  args.mirror = random.Chance(0.5);
  const auto side = [&random] { return random.OneOf<int64_t>({1, 2, 5, 6, random.Integer(1, 90)}); };
  args.height = side();
  args.width = side();
  args.channels = random.OneOf<int64_t>({1, 3, 3, 3, 4});
  args.new_height = side();
  args.new_width = side();
  args.scale = random.OneOf({1.0, random.Uniform(0.01, 4), double(args.new_width) / args.width, 1e-300, 1e300});
  Part(random, args.new_height, &args.window_top, &args.window_height);
  Part(random, args.new_width, &args.window_left, &args.window_width);
  args.place_top = random.OneOf<int64_t>({0, random.Integer(0, 5)});
  args.place_left = random.OneOf<int64_t>({0, random.Integer(0, 5)});
  args.canvas_height = std::max<int64_t>(1, args.place_top + args.window_height + random.Integer(0, 3));
  args.canvas_width = std::max<int64_t>(1, args.place_left + args.window_width + random.Integer(0, 3));
  std::vector<uint8_t> image(args.height * args.width * args.channels), fill(args.channels);
  const bool flat = random.Chance(0.2);
  const auto level = static_cast<uint8_t>(random.Integer(0, 255));
  for (uint8_t& v : image) v = flat ? level : static_cast<uint8_t>(random.Integer(0, 255));
  for (uint8_t& v : fill) v = static_cast<uint8_t>(random.Integer(0, 255));
  args.image = image.data();
  args.fill = fill.data();
  const auto range = std::minmax_element(image.begin(), image.end());
  if (args.rule == ResizeRule::kTorchvision)
    Check<float>(args, *range.first, *range.second);
  else
    Check<uint8_t>(args, *range.first, *range.second);
}

const FuzzCase fuzz_case("fit_image", FuzzFitImage);

}  // namespace
}  // namespace fuzz
}  // namespace tfdet
