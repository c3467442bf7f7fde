// Samples of images: drawn, ranked, drawn again where they are rejected, and scored again where they are changed; and
// the scores of given images.
#pragma once

#include <vector>

#include "choice.hpp"
#include "draw.hpp"
#include "image.hpp"
#include "likelihoods.hpp"
#include "runner.hpp"

namespace caflow::runtime {

// The best sample of each condition, in the conditions' order.
std::vector<Result> draw_best(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& conditions,
                              const Draw& draw);

// All samples of each condition, the best of each first.
std::vector<Result> draw_all(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& conditions,
                             const Draw& draw);

// The likelihood of each target. `alpha`: targets of less typicality are rejected; 0 judges nothing.
std::vector<Result> score_all(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& targets,
                              const std::vector<Image>& conditions, double alpha);

}  // namespace caflow::runtime
