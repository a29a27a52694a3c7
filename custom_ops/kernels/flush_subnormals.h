// Subnormal numbers count as 0 while an object of this type lives, as they do in TensorFlow's own threads: the result
// must not depend on which thread a part of the work falls to.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace tfdet {

class FlushSubnormals {
 public:
#if defined(__SSE__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // flush to zero, subnormals are zero
  ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
  FlushSubnormals() {}
#endif
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;
};

}  // namespace tfdet
