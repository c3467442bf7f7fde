// Canny's edges, as OpenCV finds them: those of a sketch.
#pragma once

#include <cstdint>
#include <vector>

#include "tiles.hpp"

namespace caflow::runtime {

// Of a grey image, (height, width): 255 at edges, 0 elsewhere. Gradients are Sobel's, 3×3, and their size is the sum of
// absolute values. Edges begin above the `high` threshold and are followed as long as they are above the `low` one.
std::vector<std::uint8_t> find_edges(const std::vector<std::uint8_t>& grey, Sides sides, double low, double high);

}  // namespace caflow::runtime
