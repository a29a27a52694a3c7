// MatchBoxes on a GPU: one thread per box, ground truth in shared memory tile by tile. The largest IoU of every
// ground-truth box comes first, by atomic maxima of the bits of floats that are not negative: their order does not
// matter, so the result is the same from run to run. Compile without fused multiply-add, as equality of IoUs decides.
#include <cfloat>

#include "custom_ops/kernels/match_boxes.h"

namespace tfdet {
namespace {

constexpr int kThreads = 256;       // of a thread block, and ground-truth boxes of a tile
constexpr unsigned kWarp = 0xffffffffu;
constexpr int64_t kMaxImages = 65535;  // in the grid; more are looped over

enum Kind : int { kLeftOut = 0, kMatched = 1, kCrowd = 2 };

struct Box {
  float x1, y1, x2, y2, area;
};

struct Tile {
  Box gt[kThreads];
  int kind[kThreads];
  int top[kThreads];  // bits of the largest IoU
};

__device__ inline float Positive(float v) { return v > 0 ? v : 0; }
__device__ inline float Counted(float ratio) { return ratio >= FLT_MIN ? ratio : 0; }

__device__ inline bool Read(const float* boxes, int64_t row, float extra, Box* box) {
  box->x1 = boxes[4 * row];
  box->y1 = boxes[4 * row + 1];
  box->x2 = boxes[4 * row + 2];
  box->y2 = boxes[4 * row + 3];
  box->area = Positive(box->x2 - box->x1 + extra) * Positive(box->y2 - box->y1 + extra);
  return isfinite(box->x1) && isfinite(box->y1) && isfinite(box->x2) && isfinite(box->y2);
}

__device__ inline float Intersection(const Box& a, const Box& b, float extra) {
  const float width = (a.x2 < b.x2 ? a.x2 : b.x2) - (a.x1 > b.x1 ? a.x1 : b.x1) + extra;
  const float height = (a.y2 < b.y2 ? a.y2 : b.y2) - (a.y1 > b.y1 ? a.y1 : b.y1) + extra;
  return Positive(width) * Positive(height);
}

__device__ inline float Iou(const Box& box, const Box& gt, float extra) {
  const float intersection = Intersection(box, gt, extra);
  // Most pairs do not meet. The quotient would be 0, or not a number, and count as 0.
  if (!(intersection > 0)) return 0;
  return Counted(__fdiv_rn(intersection, box.area + gt.area - intersection));
}

// This thread's box; false where it takes no part.
__device__ inline bool ReadBox(const MatchBoxesArgs& args, int64_t image, int64_t i, Box* box) {
  if (i >= args.num_boxes) return false;
  const int64_t mask_row = (args.mask_images == 1 ? 0 : image) * args.num_boxes + i;
  const int64_t box_row = (args.box_images == 1 ? 0 : image) * args.num_boxes + i;
  return Read(args.boxes, box_row, args.extra, box) && args.box_valid[mask_row];
}

// All threads of a block call this; each fetches one ground-truth box. Returns how many the tile holds.
__device__ inline int LoadTile(const MatchBoxesArgs& args, int64_t image, int64_t first, Tile* tile) {
  const int t = threadIdx.x;
  const int64_t row = image * args.num_gts + first + t;
  __syncthreads();  // the tile before is used up
  tile->kind[t] = kLeftOut;
  tile->top[t] = 0;
  if (first + t < args.num_gts && args.gt_valid[row]) {
    if (Read(args.gt_boxes, row, args.extra, &tile->gt[t])) {
      tile->kind[t] = args.gt_crowd[row] ? kCrowd : kMatched;
      if (args.ties) tile->top[t] = __float_as_int(args.gt_iou[row]);
    }
  }
  __syncthreads();
  const int64_t left = args.num_gts - first;
  return left < kThreads ? static_cast<int>(left) : kThreads;
}

__global__ void GtMaximaKernel(MatchBoxesArgs args) {
  __shared__ Tile tile;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (int64_t image = blockIdx.y; image < args.images; image += gridDim.y) {
    Box box;
    const bool takes_part = ReadBox(args, image, i, &box);
    for (int64_t first = 0; first < args.num_gts; first += kThreads) {
      const int count = LoadTile(args, image, first, &tile);
      for (int g = 0; g < count; ++g) {
        if (tile.kind[g] != kMatched) continue;  // the same for all threads
        int bits = takes_part ? __float_as_int(Iou(box, tile.gt[g], args.extra)) : 0;
        if (!__any_sync(kWarp, bits > 0)) continue;
        for (int lane = 16; lane > 0; lane /= 2) bits = max(bits, __shfl_xor_sync(kWarp, bits, lane));
        if (threadIdx.x % 32 == 0) atomicMax(&tile.top[g], bits);
      }
      __syncthreads();
      const int top = threadIdx.x < count ? tile.top[threadIdx.x] : 0;
      if (top > 0) atomicMax(reinterpret_cast<int*>(args.gt_iou) + image * args.num_gts + first + threadIdx.x, top);
    }
  }
}

__global__ void BestKernel(MatchBoxesArgs args) {
  __shared__ Tile tile;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (int64_t image = blockIdx.y; image < args.images; image += gridDim.y) {
    Box box;
    const bool takes_part = ReadBox(args, image, i, &box);
    float best = 0, overlap = 0;
    int index = -1, nearest = -1;
    for (int64_t first = 0; first < args.num_gts; first += kThreads) {
      const int count = LoadTile(args, image, first, &tile);
      for (int g = 0; takes_part && g < count; ++g) {
        const int slot = static_cast<int>(first) + g;
        if (tile.kind[g] == kMatched) {
          const float iou = Iou(box, tile.gt[g], args.extra);
          if (index < 0 || iou > best) {
            best = iou;
            index = slot;
          }
          if (__float_as_int(iou) == tile.top[g]) nearest = slot;
        } else if (tile.kind[g] == kCrowd) {
          const float intersection = Intersection(box, tile.gt[g], args.extra);
          const float share = Counted(__fdiv_rn(intersection, box.area));
          if (share > overlap) overlap = share;
        }
      }
    }
    if (i < args.num_boxes) {
      const int64_t row = image * args.num_boxes + i;
      args.iou[row] = best;
      args.index[row] = index;
      args.crowd_overlap[row] = overlap;
      if (args.ties) args.nearest_index[row] = nearest;
    }
  }
}

}  // namespace

int MatchBoxesGpu(const MatchBoxesArgs& args, GpuStream stream) {
  if (args.ties && args.images * args.num_gts > 0) {
    const cudaError_t error = cudaMemsetAsync(args.gt_iou, 0, args.images * args.num_gts * sizeof(float), stream);
    if (error != cudaSuccess) return static_cast<int>(error);
  }
  if (args.images == 0 || args.num_boxes == 0) return 0;
  const int64_t images = args.images < kMaxImages ? args.images : kMaxImages;
  const dim3 grid(static_cast<unsigned>((args.num_boxes + kThreads - 1) / kThreads), static_cast<unsigned>(images));
  if (args.ties && args.num_gts > 0) {
    GtMaximaKernel<<<grid, kThreads, 0, stream>>>(args);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return static_cast<int>(error);
  }
  BestKernel<<<grid, kThreads, 0, stream>>>(args);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace tfdet
