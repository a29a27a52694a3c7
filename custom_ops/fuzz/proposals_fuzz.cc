#include "custom_ops/c_api/threads.h"
#include "custom_ops/fuzz/fuzz.h"
#include "custom_ops/kernels/proposals.h"

namespace tfdet {
namespace fuzz {
namespace {

std::vector<float> Values(Random& random, int64_t count, double scale, double odd) {
  std::vector<float> values(count);
  for (float& v : values) v = random.Coordinate(scale, odd);
  return values;
}

void FuzzProposals(Random& random) {
  ProposalOptions options;
  options.batch = random.Integer(0, 2);
  options.num_levels = static_cast<int>(random.Integer(1, 4));
  options.from_logits = random.Chance(0.5);
  options.pre_nms_top_n = random.OneOf<int64_t>({0, 1, 50, random.Integer(0, 3000)});
  options.post_nms_top_n = random.OneOf<int64_t>({0, 1, 30, random.Integer(0, 500)});
  options.iou_threshold = random.OneOf({0.3f, 0.7f, 1.0f});
  options.min_size = random.OneOf({0.0f, 0.0f, 8.0f});
  const double odd = random.OneOf({0.0, 0.0, 0.02, 0.5});
  const int64_t anchors = random.OneOf<int64_t>({0, 1, 3, 15});
  std::vector<ProposalLevel> levels(options.num_levels);
  std::vector<std::vector<float>> kept;  // what the levels point to
  for (ProposalLevel& level : levels) {
    level.height = random.OneOf<int64_t>({0, 1, random.Integer(0, 20)});
    level.width = random.OneOf<int64_t>({0, 1, random.Integer(0, 20)});
    level.anchors = anchors;
    level.stride = random.OneOf({4.0f, 16.0f, 64.0f});
    level.variant = static_cast<ProposalVariant>(random.Integer(0, 3));
    const int64_t cells = options.batch * level.size();
    kept.push_back(Values(random, cells * (options.from_logits ? 2 : 1), 1.0, odd));
    kept.push_back(Values(random, 4 * cells, random.OneOf({0.1, 1.0, 100.0}), odd));
    kept.push_back(random.Boxes(anchors));
    level.scores = kept[kept.size() - 3].data();
    level.deltas = kept[kept.size() - 2].data();
    level.cell_anchors = kept[kept.size() - 1].data();
  }
  std::vector<float> info(3 * options.batch), ranges(2 * options.batch);
  for (int64_t image = 0; image < options.batch; ++image) {
    info[3 * image] = random.Coordinate(1000.0, odd);
    info[3 * image + 1] = random.Coordinate(1000.0, odd);
    info[3 * image + 2] = random.OneOf({1.0f, 0.3f, 2.5f});
    ranges[2 * image] = random.Coordinate(100.0, odd);
    ranges[2 * image + 1] = random.Coordinate(1000.0, odd);
  }
  const float* range = random.Chance(0.5) ? ranges.data() : nullptr;

  std::vector<float> boxes[2], scores[2];
  for (int i = 0; i < 2; ++i) {
    boxes[i].resize(4 * options.batch * options.post_nms_top_n, -7);
    scores[i].resize(options.batch * options.post_nms_top_n, -7);
    GenerateProposalsCpu(levels.data(), options, info.data(), range, boxes[i].data(), scores[i].data(),
                         Threads(i == 0 ? 1 : 3));
  }
  FUZZ_CHECK(SameBits(boxes[0], boxes[1]));
  FUZZ_CHECK(SameBits(scores[0], scores[1]));
  for (float v : boxes[0]) FUZZ_CHECK(v == v);
  for (float v : scores[0]) FUZZ_CHECK(v == v && v != -7);
}

const FuzzCase fuzz_case("generate_proposals", FuzzProposals);

}  // namespace
}  // namespace fuzz
}  // namespace tfdet
