// Consistency of a result with its condition: the result is degraded again and compared with the condition. For
// super-resolution, a result can also be changed to match its condition.
#pragma once

#include <vector>

#include "bundle.hpp"
#include "image.hpp"

namespace caflow::runtime {

// Check that the task defines how to make a condition from a target. Throws an InputError.
void check_has_consistency(const Model& model);

// Return the PSNR in dB between the condition and `image` degraded as in training (LR-PSNR for super-resolution). For
// inpainting, only known pixels count: those that are not black in the condition.
double consistency(const Model& model, const Image& image, const Image& condition);

// Return an image near a sample whose reduction is the condition, found by back-projection within 0…255. If no image
// reduces to the condition, the result comes as close as possible. For super-resolution only. `pixels` are the
// continuous values of the sample, (H, W, 3).
Image project(const Model& model, const std::vector<float>& pixels, const Image& condition);

// Return the luma of an image as OpenCV computes it, (height, width) uint8.
std::vector<std::uint8_t> grey_of(const Image& image);

}  // namespace caflow::runtime
