// Canny edge detection with the same results as OpenCV. Conditions of the task "sketch" are such edges.
#pragma once

#include <cstdint>
#include <vector>

#include "tiles.hpp"

namespace caflow::runtime {

// Return the edges of a grey image, (height, width) uint8: 255 at edges, 0 elsewhere. Gradients are computed with 3×3
// Sobel filters, and their size is the sum of absolute values. An edge starts where the size is above the threshold
// `high`, and continues where it is above `low`.
std::vector<std::uint8_t> find_edges(const std::vector<std::uint8_t>& grey, Sides sides, double low, double high);

}  // namespace caflow::runtime
