// Enlarges images. Other arrays are (height, width, 3).
#pragma once

#include <cstdint>
#include <vector>

#include "image.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

// Return an image enlarged by the factor `scale` by bicubic interpolation. `sides` are those of the small image.
std::vector<float> enlarge(const std::vector<float>& small, Sides sides, std::int64_t scale);

// Return a condition enlarged by the factor `scale`, without a mask, as continuous pixel values. The integer w becomes w + ½, the middle
// of [w, w + 1).
std::vector<float> enlarge_pixels(const Image& condition, std::int64_t scale);

}  // namespace caflow::runtime
