// Calls the CPU kernels with random shapes and values: kernels_fuzz [CALLS [SEED]].
//
// bazel test //custom_ops:kernels_fuzz, or without Bazel, from the source folder:
//   g++ -std=c++17 -O1 -g -fno-math-errno -fno-trapping-math -ffp-contract=off -fsanitize=address,undefined
//       -fno-sanitize-recover=all -I. custom_ops/fuzz/*.cc custom_ops/kernels/*_cpu.cc -o kernels_fuzz -pthread
#include "custom_ops/fuzz/fuzz.h"

#include <csignal>

// Any fault ends in SIGABRT, whose handler names the call.
extern "C" const char* __asan_default_options() { return "abort_on_error=1"; }
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

namespace tfdet {
namespace fuzz {
namespace {

const char* current_name = "";
uint64_t current_seed = 0;

void PrintCall(int) {
  std::fprintf(stderr, "%s: this call again: kernels_fuzz 1 %llu\n", current_name,
               static_cast<unsigned long long>(current_seed));
}

}  // namespace

int Main(int64_t calls, uint64_t seed) {
  std::signal(SIGABRT, PrintCall);
  for (const FuzzCase& fuzz_case : FuzzCase::All()) {
    current_name = fuzz_case.name;
    for (int64_t call = 0; call < calls; ++call) {
      current_seed = seed + static_cast<uint64_t>(call);  // of its own, so that one call can be had alone
      Random random(current_seed);
      fuzz_case.run(random);
    }
    std::printf("%s: %lld calls from seed %llu: no fault\n", fuzz_case.name, static_cast<long long>(calls),
                static_cast<unsigned long long>(seed));
  }
  return FuzzCase::All().empty() ? 1 : 0;
}

}  // namespace fuzz
}  // namespace tfdet

int main(int argc, char** argv) {
  return tfdet::fuzz::Main(argc > 1 ? std::atoll(argv[1]) : 5000,
                           argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
}
