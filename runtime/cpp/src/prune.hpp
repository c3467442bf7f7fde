// Progressive best-of-N: selects the items that continue after a level.
#pragma once

#include <cstdint>
#include <vector>

#include "batch_size.hpp"
#include "level_chain.hpp"

namespace caflow::runtime {

// Return a function that keeps, after level j, the `keep[j + 1]` most likely items of each unit. `units` must outlive
// the function. Each function is for one run, because it remembers the items that it kept.
Prune prune_to(const Run& units, const std::vector<std::uint32_t>& keep);

}  // namespace caflow::runtime
