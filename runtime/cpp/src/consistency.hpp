// How well a result, degraded again, matches the condition it came from; and, for super-resolution, making it match.
#pragma once

#include <vector>

#include "bundle.hpp"
#include "image.hpp"

namespace caflow::runtime {

// Whether the task says how its conditions are made; an InputError if not.
void check_has_consistency(const Model& model);

// PSNR in dB between `image`, degraded as in training, and `condition`; for super-resolution the LR-PSNR. Of an
// inpainted image only the known pixels count, those that are not black in the condition.
double consistency(const Model& model, const Image& image, const Image& condition);

// The image nearby whose reduction is the condition, for super-resolution: back-projection, within 0…255. A condition
// that no image reduces to is approached as far as it goes. `pixels`: (H, W, 3) continuous pixel values of a sample.
Image project(const Model& model, const std::vector<float>& pixels, const Image& condition);

// Luma, as OpenCV computes it, (height, width).
std::vector<std::uint8_t> grey_of(const Image& image);

}  // namespace caflow::runtime
