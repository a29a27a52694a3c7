#include "custom_ops/c_api/threads.h"
#include "custom_ops/fuzz/fuzz.h"
#include "custom_ops/kernels/match_boxes.h"

namespace tfdet {
namespace fuzz {
namespace {

// Of exactly the size that the kernel may touch.
struct Results {
  std::vector<float> iou, gt_iou, overlap;
  std::vector<int32_t> index, nearest;
};

std::vector<char> Mask(Random& random, int64_t count) {
  const double share = random.OneOf({0.0, 0.5, 0.9, 1.0});
  std::vector<char> mask(count);
  for (char& v : mask) v = random.Chance(share);
  return mask;
}

Results Call(MatchBoxesArgs args, int threads) {
  const int64_t boxes = args.images * args.num_boxes, gts = args.images * args.num_gts;
  Results results;
  results.iou.resize(boxes, -7);
  results.overlap.resize(boxes, -7);
  results.index.resize(boxes, -7);
  if (args.ties) {
    results.nearest.resize(boxes, -7);
    results.gt_iou.resize(gts, -7);
  }
  args.iou = results.iou.data();
  args.crowd_overlap = results.overlap.data();
  args.index = results.index.data();
  args.nearest_index = results.nearest.data();
  args.gt_iou = results.gt_iou.data();
  std::vector<char> workspace(MatchBoxesCpuWorkspace(args.images, args.num_gts));
  MatchBoxesCpu(args, workspace.data(), Threads(threads));
  return results;
}

void FuzzMatchBoxes(Random& random) {
  MatchBoxesArgs args;
  args.images = random.Integer(0, 3);
  args.num_boxes = random.OneOf<int64_t>({0, 1, 63, 64, 65, 511, 512, 513, random.Integer(0, 2000)});
  args.num_gts = random.OneOf<int64_t>({0, 1, 2, random.Integer(0, 50)});
  args.box_images = random.Chance(0.5) ? 1 : args.images;
  args.mask_images = random.Chance(0.5) ? 1 : args.images;
  args.extra = random.Chance(0.5) ? 1.0f : 0.0f;
  args.ties = random.Chance(0.8);
  const auto boxes = random.Boxes(args.box_images * args.num_boxes);
  const auto gt_boxes = random.Boxes(args.images * args.num_gts);
  const auto box_valid = Mask(random, args.mask_images * args.num_boxes);
  const auto gt_valid = Mask(random, args.images * args.num_gts);
  const auto gt_crowd = Mask(random, args.images * args.num_gts);
  args.boxes = boxes.data();
  args.gt_boxes = gt_boxes.data();
  args.box_valid = reinterpret_cast<const bool*>(box_valid.data());
  args.gt_valid = reinterpret_cast<const bool*>(gt_valid.data());
  args.gt_crowd = reinterpret_cast<const bool*>(gt_crowd.data());

  const Results one = Call(args, 1), three = Call(args, 3);
  FUZZ_CHECK(SameBits(one.iou, three.iou));
  FUZZ_CHECK(SameBits(one.index, three.index));
  FUZZ_CHECK(SameBits(one.nearest, three.nearest));
  FUZZ_CHECK(SameBits(one.gt_iou, three.gt_iou));
  FUZZ_CHECK(SameBits(one.overlap, three.overlap));
  for (size_t i = 0; i < one.iou.size(); ++i) {
    FUZZ_CHECK(one.iou[i] >= 0 && one.iou[i] <= 1);
    FUZZ_CHECK(one.overlap[i] >= 0 && one.overlap[i] <= 1);
    FUZZ_CHECK(one.index[i] >= -1 && one.index[i] < args.num_gts);
    if (!args.ties) continue;
    FUZZ_CHECK(one.nearest[i] >= -1 && one.nearest[i] < args.num_gts);
    const int64_t image = static_cast<int64_t>(i) / args.num_boxes;
    // The best is a lower bound of its ground truth's best; whoever is nearest to one has no less with its own best.
    if (one.index[i] >= 0) FUZZ_CHECK(one.gt_iou[image * args.num_gts + one.index[i]] >= one.iou[i]);
    if (one.nearest[i] >= 0) FUZZ_CHECK(one.gt_iou[image * args.num_gts + one.nearest[i]] <= one.iou[i]);
  }
  for (float v : one.gt_iou) FUZZ_CHECK(v >= 0 && v <= 1);
}

const FuzzCase fuzz_case("match_boxes", FuzzMatchBoxes);

}  // namespace
}  // namespace fuzz
}  // namespace tfdet
