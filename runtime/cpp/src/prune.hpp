// Progressive best-of-N: which rows go on after a level.
#pragma once

#include <cstdint>
#include <vector>

#include "batching.hpp"
#include "scan.hpp"

namespace caflow::runtime {

// Keeps the `keep[j + 1]` most likely rows of each unit after level j. `units` must outlive it.
Prune prune_to(const Run& units, const std::vector<std::uint32_t>& keep);

}  // namespace caflow::runtime
