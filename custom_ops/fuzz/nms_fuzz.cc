#include "custom_ops/c_api/threads.h"
#include "custom_ops/fuzz/fuzz.h"
#include "custom_ops/kernels/nms.h"

namespace tfdet {
namespace fuzz {
namespace {

struct Results {
  std::vector<float> boxes, scores;
  std::vector<int32_t> classes, indices, num_valid;

  Results(const NmsSizes& sizes, const NmsOptions& options, const std::vector<float>& in_boxes,
          const std::vector<float>& in_scores, int threads)
      : boxes(4 * sizes.batch * options.max_detections, -7), scores(sizes.batch * options.max_detections, -7),
        classes(scores.size(), -7), indices(scores.size(), -7), num_valid(sizes.batch, -7) {
    BatchedNmsCpu(sizes, options, in_boxes.data(), in_scores.data(),
                  {boxes.data(), scores.data(), classes.data(), indices.data(), num_valid.data()}, Threads(threads));
  }
};

void FuzzNms(Random& random) {
  NmsSizes sizes;
  sizes.batch = random.Integer(0, 3);
  sizes.boxes = random.OneOf<int64_t>({0, 1, 63, 64, 65, random.Integer(0, 700)});
  if (random.Chance(0.01)) sizes.boxes = kManyBoxes + random.Integer(0, 100);
  sizes.classes = random.OneOf<int64_t>({0, 1, 2, random.Integer(0, 9)});
  sizes.box_sets = random.Chance(0.5) ? 1 : sizes.classes;
  NmsOptions options;
  options.iou_threshold = random.OneOf({0.0f, 0.3f, 0.5f, 0.7f, 1.0f});
  options.inclusive = options.iou_threshold > 0 && random.Chance(0.3);
  options.score_threshold = random.OneOf({-3e38f, 0.0f, 0.05f, 0.9f, std::numeric_limits<float>::infinity()});
  options.extra_pixel = random.Chance(0.5) ? 1.0f : 0.0f;
  options.method = static_cast<NmsMethod>(random.OneOf<int64_t>({0, 0, 1, 2}));
  options.sigma = random.OneOf({0.1f, 0.5f, 1e-30f});
  options.max_detections = random.OneOf<int64_t>({0, 1, 100, random.Integer(0, 1000)});
  const auto boxes = random.Boxes(sizes.batch * sizes.boxes * sizes.box_sets);
  std::vector<float> scores(sizes.batch * sizes.boxes * sizes.classes);
  const double odd = random.OneOf({0.0, 0.02});
  const bool coarse = random.Chance(0.5);  // many ties
  for (float& v : scores) {
    v = random.Coordinate(1.0, odd);
    if (coarse && v > -1e6f && v < 1e6f) v = static_cast<float>(static_cast<int>(v * 8)) / 8;
  }

  const Results one(sizes, options, boxes, scores, 1), three(sizes, options, boxes, scores, 3);
  FUZZ_CHECK(SameBits(one.boxes, three.boxes));
  FUZZ_CHECK(SameBits(one.scores, three.scores));
  FUZZ_CHECK(SameBits(one.classes, three.classes));
  FUZZ_CHECK(SameBits(one.indices, three.indices));
  FUZZ_CHECK(SameBits(one.num_valid, three.num_valid));
  for (int64_t image = 0; image < sizes.batch; ++image) {
    FUZZ_CHECK(one.num_valid[image] >= 0 && one.num_valid[image] <= options.max_detections);
    for (int64_t row = 0; row < options.max_detections; ++row) {
      const int64_t at = image * options.max_detections + row;
      if (row >= one.num_valid[image]) {
        FUZZ_CHECK(one.scores[at] == 0 && one.classes[at] == -1 && one.indices[at] == -1 && one.boxes[4 * at] == 0);
        continue;
      }
      FUZZ_CHECK(one.classes[at] >= 0 && one.classes[at] < sizes.classes);
      FUZZ_CHECK(one.indices[at] >= 0 && one.indices[at] < sizes.boxes);
      FUZZ_CHECK(one.scores[at] > options.score_threshold);
      if (row > 0) FUZZ_CHECK(one.scores[at] <= one.scores[at - 1]);
    }
  }
}

const FuzzCase fuzz_case("batched_nms", FuzzNms);

}  // namespace
}  // namespace fuzz
}  // namespace tfdet
