// Samples of images: drawn, ranked, and scored again where they are changed; and the scores of given images.
#pragma once

#include <vector>

#include "choice.hpp"
#include "draw.hpp"
#include "image.hpp"
#include "runner.hpp"

namespace caflow::runtime {

// The best sample of each condition, in the conditions' order.
std::vector<Result> draw_best(Runner& runner, const std::vector<Image>& conditions, const Draw& draw);

// All samples of each condition, the best of each first.
std::vector<Result> draw_all(Runner& runner, const std::vector<Image>& conditions, const Draw& draw);

// The likelihood of each target.
std::vector<Row> score_rows(Runner& runner, const std::vector<Image>& targets, const std::vector<Image>& conditions);

}  // namespace caflow::runtime
