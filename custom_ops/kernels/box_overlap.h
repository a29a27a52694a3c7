// Overlap of two boxes and the order of scores, alike on the host and on the GPU.
#pragma once

#include <cstdint>
#include <cstring>

#include "custom_ops/kernels/host_device.h"

namespace tfdet {

// A box with ordered edges, and its area. `extra` is what the convention adds to x2 - x1 to make it a width.
struct Edges {
  float x1, y1, x2, y2, area;
};

TFDET_HOST_DEVICE float Smaller(float a, float b) { return a < b ? a : b; }
TFDET_HOST_DEVICE float Larger(float a, float b) { return a > b ? a : b; }

// False also for what is not a number.
TFDET_HOST_DEVICE bool IsFinite(float v) { return v - v == 0.0f; }

TFDET_HOST_DEVICE Edges EdgesOf(const float* box, float extra) {
  const float right = box[2] + extra, bottom = box[3] + extra;
  Edges e;
  e.x1 = Smaller(box[0], right);
  e.x2 = Larger(box[0], right);
  e.y1 = Smaller(box[1], bottom);
  e.y2 = Larger(box[1], bottom);
  e.area = (e.x2 - e.x1) * (e.y2 - e.y1);
  return e;
}

// Whether a box can take part in suppression: coordinates are numbers and the area does not overflow.
TFDET_HOST_DEVICE bool IsNumber(const float* box, float extra) {
  return IsFinite(box[0]) && IsFinite(box[1]) && IsFinite(box[2]) && IsFinite(box[3]) &&
         IsFinite(EdgesOf(box, extra).area);
}

TFDET_HOST_DEVICE float Intersection(const Edges& a, const Edges& b) {
  const float width = Smaller(a.x2, b.x2) - Larger(a.x1, b.x1);
  const float height = Smaller(a.y2, b.y2) - Larger(a.y1, b.y1);
  return (width > 0.0f ? width : 0.0f) * (height > 0.0f ? height : 0.0f);
}

// Intersection over union; not a number for two boxes without area, which then overlap no threshold.
TFDET_HOST_DEVICE float Overlap(const Edges& a, const Edges& b) {
  const float intersection = Intersection(a, b);
  return intersection / (a.area + b.area - intersection);
}

// Sorts ascending where scores sort descending. 0 and -0 are equal; what is not a number comes last, alone at kNoScore.
constexpr uint32_t kNoScore = 0xffffffffu;

TFDET_HOST_DEVICE uint32_t DescendingKey(float score) {
  if (!(score == score)) return kNoScore;
  score += 0.0f;  // -0 becomes 0
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

TFDET_HOST_DEVICE float ScoreOfKey(uint32_t key) {
  const uint32_t bits = key & 0x80000000u ? key : (~key & 0x7fffffffu);
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

// e^x to about one unit in the last place, the same bits on every machine: libraries' exponentials differ.
// Polynomial of S. Moshier's Cephes library (expf).
TFDET_HOST_DEVICE float Exp(float x) {
  float v = x > -104.0f ? x : -104.0f;  // also takes what is not a number away, for the conversion below
  v = v < 89.0f ? v : 89.0f;
  const float scaled = v * 1.44269504088896341f;
  const int32_t n = static_cast<int32_t>(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
  const float whole = static_cast<float>(n);
  const float r = (v - whole * 0.693359375f) - whole * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float y = p * (r * r) + r + 1.0f;
  // 2^n in two factors: one alone may leave the range of float where the result does not.
  const int32_t half = n / 2;
  const int32_t bits1 = (half + 127) * (1 << 23), bits2 = (n - half + 127) * (1 << 23);
  float factor1, factor2;
  memcpy(&factor1, &bits1, sizeof factor1);
  memcpy(&factor2, &bits2, sizeof factor2);
  const float result = y * factor1 * factor2;
  return x == x ? result : x;
}

}  // namespace tfdet
