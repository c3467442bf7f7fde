// Which values of a target its condition contains, for models that complete images. The functions read conditions of
// the model that they get.
#pragma once

#include <cstdint>
#include <vector>

#include "bundle.hpp"
#include "image.hpp"

namespace caflow::runtime {

// Return for each pixel, (h, w), 1 if the model draws one of its values, and 0 if all of them are known. Return an empty
// vector if the model draws all values.
std::vector<std::uint8_t> drawn_pixels(const Image& condition, const Model& model);

// Return how many values the model draws for a condition. Bits/dim are per such value.
std::int64_t dims_of(const Image& condition, const Model& model);

// Return targets with the known values of their conditions in place of their own.
std::vector<Image> with_known(std::vector<Image> targets, const std::vector<Image>& conditions, const Model& model);

// Set all known values among continuous pixel values, (h, w, 3), to the middle of their intervals.
void complete(std::vector<float>& pixels, const Image& condition, const Model& model);

// Return the first three channels of a condition: the image, or the guess, without the mask.
Image without_mask(const Image& condition);

}  // namespace caflow::runtime
