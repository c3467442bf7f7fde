#include "pipeline.hpp"

#include "drawing.hpp"
#include "errors.hpp"

namespace caflow::runtime {

Pipeline::Pipeline(const std::filesystem::path& folder, const Settings& settings)
    : graphs_(folder, settings.backend, settings.threads, settings.engine_cache),
      runner_(graphs_, settings.pixel_budget, settings.overlap) {}

std::vector<Result> Pipeline::best_of(const std::vector<Image>& conditions, const Draw& draw) {
    return draw_best(runner_, conditions, draw);
}

std::vector<Result> Pipeline::sample(const std::vector<Image>& conditions, const Draw& draw) {
    return draw_all(runner_, conditions, draw);
}

std::vector<Result> Pipeline::score(const std::vector<Image>& targets, const std::vector<Image>& conditions) {
    const std::int64_t scale = manifest().model.scale;
    for (std::size_t k = 0; k < targets.size(); ++k) {
        const Image &target = targets[k], &condition = conditions[k];
        if (target.height == scale * condition.height && target.width == scale * condition.width) continue;
        throw InputError("target[" + std::to_string(k) + "]: for a condition of " + condition.sides() + " wanted " +
                         std::to_string(scale) + " times its sides, got " + target.sides() +
                         ": crop or resize one of them");
    }
    std::vector<Result> results;
    for (Row& row : score_rows(runner_, targets, conditions)) {
        Result result;
        result.image.height = targets[row.image].height;
        result.image.width = targets[row.image].width;
        result.row = std::move(row);
        results.push_back(std::move(result));
    }
    return results;
}

}  // namespace caflow::runtime
