// Reduces images, as targets are reduced to conditions in training, and enlarges images. All arrays are (height, width,
// 3).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "image.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

// Return an image reduced by the factor `scale` with the antialiased filter "bicubic" or "bilinear", as Pillow and
// PyTorch do. `sides` are those of the large image. `Value` is uint8 or float.
template <class Value>
std::vector<double> reduce(const std::vector<Value>& large, Sides sides, std::int64_t scale,
                           const std::string& down_filter);

// Return an image enlarged by the factor `scale` by bicubic interpolation. `sides` are those of the small image.
std::vector<float> enlarge(const std::vector<float>& small, Sides sides, std::int64_t scale);

// Return an image enlarged by the factor `scale`, as continuous pixel values. The integer w becomes w + ½, the middle
// of [w, w + 1).
std::vector<float> enlarge_pixels(const Image& condition, std::int64_t scale);

}  // namespace caflow::runtime
