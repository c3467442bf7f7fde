// Images made smaller, as conditions are made of targets, and larger.
//
// Values are float or double, (height, width, 3).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "image.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

// 1/scale as large, through the antialiased filter "bicubic" or "bilinear", as Pillow and PyTorch reduce. `sides`: of
// the large image; `Value`: uint8 or float.
template <class Value>
std::vector<double> reduce(const std::vector<Value>& large, Sides sides, std::int64_t scale,
                           const std::string& down_filter);

// `scale` times as large, bicubic. `sides`: of the small image.
std::vector<float> enlarge(const std::vector<float>& small, Sides sides, std::int64_t scale);

// An image enlarged, as continuous pixel values: the integer w stands for [w, w + 1), so its middle is w + ½.
std::vector<float> enlarge_pixels(const Image& condition, std::int64_t scale);

}  // namespace caflow::runtime
