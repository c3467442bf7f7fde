// Draws and chooses samples of images: ranks them, draws further samples for rejected ones, and scores images again
// after they were changed. Also scores existing images.
#pragma once

#include <vector>

#include "calibrated_likelihoods.hpp"
#include "choice.hpp"
#include "image.hpp"
#include "runner.hpp"
#include "draw_options.hpp"

namespace caflow::runtime {

// Return the best sample of each condition, in the order of the conditions. Throws an InputError, NotFinite or
// Untypical.
std::vector<Result> draw_best(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& conditions,
                              const DrawOptions& draw);

// Return all samples of each condition, the best of each condition first. Throws an InputError or NotFinite.
std::vector<Result> draw_all(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& conditions,
                             const DrawOptions& draw);

// Return the likelihood of each target. Targets whose typicality is below `alpha` are rejected; 0 judges nothing.
// Throws an InputError or NotFinite.
std::vector<Result> score_all(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& targets,
                              const std::vector<Image>& conditions, double alpha);

}  // namespace caflow::runtime
