#include "pipeline.hpp"

#include "errors.hpp"
#include "sampling.hpp"

namespace caflow::runtime {

Pipeline::Pipeline(const std::filesystem::path& folder, const Settings& settings)
    : graphs_(folder, settings),
      runner_(graphs_, settings.pixel_budget, settings.overlap),
      likelihoods_(folder, graphs_.manifest().model, settings.is_calibrated) {}

std::vector<Result> Pipeline::best_of(const std::vector<Image>& conditions, const DrawOptions& draw) {
    return draw_best(runner_, likelihoods_, conditions, draw);
}

std::vector<Result> Pipeline::sample(const std::vector<Image>& conditions, const DrawOptions& draw) {
    return draw_all(runner_, likelihoods_, conditions, draw);
}

std::vector<Result> Pipeline::score(const std::vector<Image>& targets, const std::vector<Image>& conditions,
                                    double alpha) {
    const std::int64_t scale = manifest().model.scale;
    for (std::size_t k = 0; k < targets.size(); ++k) {
        const Image &target = targets[k], &condition = conditions[k];
        if (target.height == scale * condition.height && target.width == scale * condition.width) continue;
        throw InputError("target[" + std::to_string(k) + "]: for a condition of " + condition.sides() +
                         " pixels, both sides must be " + std::to_string(scale) + " times as long; got " +
                         target.sides() + ": crop or resize one of them");
    }
    return score_all(runner_, likelihoods_, targets, conditions, alpha);
}

}  // namespace caflow::runtime
