// One anchor's way to a candidate, alike on the host and on the GPU. The order of operations is that of
// tfdet/ops/box_coding.py and proposals_portable.py.
#pragma once

#include <cmath>

#include "custom_ops/kernels/box_overlap.h"
#include "custom_ops/kernels/proposals.h"

namespace tfdet {

constexpr float kMaxLogRatio = 4.135166556742356f;  // ln(1000 / 16), of kV3

struct Candidate {
  float box[4];
  float score;
};

// What of an image matters, and the variant's numbers.
struct ProposalImage {
  float height, width, scale;
  float area_low, area_high;  // bounds of the area; only for kV2
  bool has_range;
  float min_size;
};

TFDET_HOST_DEVICE ProposalImage ImageOf(const float* image_info, const float* area_range, int64_t image,
                                        float min_size) {
  ProposalImage result;
  result.height = image_info[3 * image], result.width = image_info[3 * image + 1];
  result.scale = image_info[3 * image + 2];
  result.has_range = area_range != nullptr;
  result.area_low = result.area_high = 0.0f;
  if (result.has_range) {
    const float low = area_range[2 * image], high = area_range[2 * image + 1];
    result.area_low = low * low, result.area_high = high * high;
  }
  result.min_size = min_size;
  return result;
}

// Softmax of two logits. Infinite logits give what they give in a softmax: often no number.
TFDET_HOST_DEVICE float ForegroundProbability(float background, float foreground) {
  const float highest = Larger(background, foreground);
  const float b = Exp(background - highest), f = Exp(foreground - highest);
  return f / (b + f);
}

// Minimum and maximum that keep what is not a number.
TFDET_HOST_DEVICE float ClipTo(float v, float limit) {
  v = v < limit || v != v ? v : limit;
  return v > 0.0f || v != v ? v : 0.0f;
}

// Whether a cell lies wholly inside the image's content, for the variants that ask.
TFDET_HOST_DEVICE bool IsLive(const ProposalLevel& level, const ProposalImage& image, int64_t y, int64_t x) {
  return level.variant == ProposalVariant::kV3 || (static_cast<float>(y) < floorf(image.height / level.stride) &&
                                                   static_cast<float>(x) < floorf(image.width / level.stride));
}

TFDET_HOST_DEVICE void DecodeAnchor(const ProposalLevel& level, const ProposalImage& image, int64_t y, int64_t x,
                                    int64_t anchor, const float* delta, float* box) {
  const float* cell = level.cell_anchors + 4 * anchor;
  const float left = static_cast<float>(x) * level.stride, top = static_cast<float>(y) * level.stride;
  const float x1 = left + cell[0], y1 = top + cell[1], x2 = left + cell[2], y2 = top + cell[3];
  const float w = x2 - x1 + 1.0f, h = y2 - y1 + 1.0f;
  const float centre_x = x1 + 0.5f * (w - 1.0f), centre_y = y1 + 0.5f * (h - 1.0f);
  float dw = delta[2], dh = delta[3];
  if (level.variant == ProposalVariant::kV3) {
    dw = dw > kMaxLogRatio ? kMaxLogRatio : dw;
    dh = dh > kMaxLogRatio ? kMaxLogRatio : dh;
  }
  const float new_x = delta[0] * w + centre_x, new_y = delta[1] * h + centre_y;
  const float half_w = 0.5f * (Exp(dw) * w - 1.0f), half_h = 0.5f * (Exp(dh) * h - 1.0f);
  const float limit_x = image.width - 1.0f, limit_y = image.height - 1.0f;
  box[0] = ClipTo(new_x - half_w, limit_x);
  box[1] = ClipTo(new_y - half_h, limit_y);
  box[2] = ClipTo(new_x + half_w, limit_x);
  box[3] = ClipTo(new_y + half_h, limit_y);
}

// SimpleDet's FilterBox: a box whose side / scale is below `smallest` grows by `growth` and scores -1.
TFDET_HOST_DEVICE void GrowIfSmall(float smallest, float scale, float growth, Candidate* c) {
  const float width = (c->box[2] - c->box[0] + 1.0f - 1.0f) / scale + 1.0f;
  const float height = (c->box[3] - c->box[1] + 1.0f - 1.0f) / scale + 1.0f;
  if (!(width < smallest || height < smallest)) return;
  const float half = growth / 2.0f;
  c->box[0] = c->box[0] - half, c->box[1] = c->box[1] - half;
  c->box[2] = c->box[2] + half, c->box[3] = c->box[3] + half;
  c->score = -1.0f;
}

// The candidate of an anchor before sorting, out of its foreground probability. What must not be proposed has a score
// that is not a number.
TFDET_HOST_DEVICE Candidate CandidateOf(const ProposalLevel& level, const ProposalImage& image, int64_t index,
                                        const float* delta, float probability) {
  const int64_t anchor = index % level.anchors, cell = index / level.anchors;
  const int64_t y = cell / level.width, x = cell % level.width;
  Candidate c;
  c.score = IsLive(level, image, y, x) ? probability : -1.0f;
  DecodeAnchor(level, image, y, x, anchor, delta, c.box);
  const bool filters = level.variant == ProposalVariant::kV1 || level.variant == ProposalVariant::kV2;
  if (level.variant == ProposalVariant::kV2 && image.has_range) {
    const float area = Larger(c.box[2] - c.box[0] + 1.0f, 0.0f) * Larger(c.box[3] - c.box[1] + 1.0f, 0.0f);
    if (!(image.area_low <= area && area <= image.area_high)) c.score = -1.0f;
  }
  if (filters && image.min_size > 0.0f) {
    const float smallest = image.min_size * image.scale;
    GrowIfSmall(smallest, 1.0f, smallest, &c);
  }
  const float extra = level.variant == ProposalVariant::kSymbolic ? 0.0f : 1.0f;
  if (!IsNumber(c.box, extra)) c.score = NAN;
  return c;
}

// What kV3 does to a candidate after sorting.
TFDET_HOST_DEVICE void FilterSorted(const ProposalLevel& level, const ProposalImage& image, Candidate* c) {
  if (level.variant != ProposalVariant::kV3) return;
  const float smallest = image.min_size > 1.0f ? image.min_size : 1.0f;
  GrowIfSmall(smallest, image.scale, smallest, c);
}

// Whether a score, as sorted, may be proposed; those that may stand first.
TFDET_HOST_DEVICE bool MayPropose(const ProposalLevel& level, uint32_t key) {
  return key < DescendingKey(level.variant == ProposalVariant::kSymbolic ? 0.0f : -INFINITY);
}

// Box coordinates and score of a missing proposal.
TFDET_HOST_DEVICE float MissingValue(const ProposalLevel& level) {
  return level.variant == ProposalVariant::kSymbolic ? -1.0f : 0.0f;
}

}  // namespace tfdet
