// How whole images were degraded, for models that are told of it.
#pragma once

#include <vector>

#include "graphs.hpp"
#include "image.hpp"

namespace caflow::runtime {

// Return the degradation of a padded condition, by the graph `estimate`. It looks at windows of the image, whose
// estimates are averaged: all tiles are told the same, and time and memory are limited for images of any size.
std::vector<float> estimate_degradation(const Graphs& graphs, const Image& condition);

}  // namespace caflow::runtime
