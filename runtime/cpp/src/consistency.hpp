// How well a result, degraded again, matches the condition it came from.
#pragma once

#include "bundle.hpp"
#include "image.hpp"

namespace caflow::runtime {

// Whether the task says how its conditions are made, in a way that is known here; an InputError if not.
void check_has_consistency(const Model& model);

// PSNR in dB between `image`, degraded as in training, and `condition`; for super-resolution the LR-PSNR. Of an
// inpainted image only the known pixels count, those that are not black in the condition.
double consistency(const Model& model, const Image& image, const Image& condition);

}  // namespace caflow::runtime
