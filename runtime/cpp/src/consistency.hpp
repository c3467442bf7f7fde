// Consistency of a result with its condition: the bundle's graph degrade makes the condition of the result again. A
// result of a model that enlarges can also be changed to match its condition.
//
// The functions require a bundle with this graph.
#pragma once

#include <vector>

#include "graphs.hpp"
#include "image.hpp"

namespace caflow::runtime {

// Return the PSNR in dB between the condition and `image` degraded as in training (LR-PSNR for enlargement). Pixels of
// a hole count as equal. What the model does not see of a condition, such as colours, is not compared.
double consistency(const Graphs& graphs, const Image& image, const Image& condition);

// Return an image near a sample whose reduction is the condition, found by back-projection within 0…255. If no image
// reduces to the condition, the result comes as close as possible. For models that enlarge. `pixels` are the continuous
// values of the sample, (H, W, 3).
Image project(const Graphs& graphs, const std::vector<float>& pixels, const Image& condition);

}  // namespace caflow::runtime
