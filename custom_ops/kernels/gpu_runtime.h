// What the CUDA runtime says, for code without CUDA headers.
#pragma once

namespace tfdet {

// Text of a launcher's return value, with what to do where a person can do something.
const char* GpuErrorText(int error);

}  // namespace tfdet
