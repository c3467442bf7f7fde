#include "pipeline.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "consistency.hpp"
#include "errors.hpp"

namespace caflow::runtime {

namespace {

constexpr double worst = -std::numeric_limits<double>::infinity();
constexpr const char* try_lower = "the model's inverse explodes there; try a lower temperature";

bool is_finite(const Row& row) {
    const auto finite = [](float value) { return std::isfinite(value); };
    return row.has_finite_likelihood() && std::all_of(row.pixels.begin(), row.pixels.end(), finite);
}

// Continuous pixel values to uint8: rounded down, as the cell [w, w + 1) stands for w, and clamped to 0…255.
Image integers(const std::vector<float>& pixels, std::int64_t height, std::int64_t width) {
    Image image(height, width);
    std::transform(pixels.begin(), pixels.end(), image.rgb.begin(),
                   [](float value) { return std::uint8_t(std::clamp(value, 0.0f, 255.0f)); });
    return image;
}

std::string listed(const std::vector<std::uint32_t>& numbers) {
    std::string text = "(";
    for (const std::uint32_t number : numbers) text += (text.size() > 1 ? ", " : "") + std::to_string(number);
    return text + ")";
}

}  // namespace

Pipeline::Pipeline(const std::filesystem::path& folder, const Settings& settings)
    : graphs_(folder, settings.backend, settings.threads, settings.engine_cache),
      runner_(graphs_, settings.pixel_budget, settings.overlap) {}

std::vector<Result> Pipeline::best_of(const std::vector<Image>& conditions, const Draw& draw) {
    std::vector<std::optional<Result>> best(conditions.size());
    draw_all(conditions, draw, [&](Row&& row) {
        std::optional<Result>& winner = best[row.image];
        Result result = ranked(std::move(row), conditions[row.image], draw);
        if (result.value > (winner ? winner->value : worst)) winner = std::move(result);
    });
    std::vector<Result> results;
    for (std::size_t k = 0; k < best.size(); ++k) {
        if (!best[k]) throw NotFinite("no sample of images[" + std::to_string(k) + "] is finite: " + try_lower);
        results.push_back(std::move(*best[k]));
    }
    return results;
}

std::vector<Result> Pipeline::sample(const std::vector<Image>& conditions, const Draw& draw) {
    if (!draw.keep.empty()) throw InputError("keep: samples are dropped where one is wanted: use caflow_best_of");
    std::vector<Result> results;
    draw_all(conditions, draw, [&](Row&& row) {
        results.push_back(ranked(std::move(row), conditions[row.image], draw));
        const Result& last = results.back();
        if (last.value > worst) return;
        throw NotFinite("sample " + std::to_string(last.row.sample) + " of images[" + std::to_string(last.row.image) +
                        "] is not finite: " + try_lower);
    });
    std::stable_sort(results.begin(), results.end(), [](const Result& a, const Result& b) {
        return a.row.image != b.row.image ? a.row.image < b.row.image : a.value > b.value;
    });
    return results;
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
    runner_.score(targets, conditions, [&](Row&& row) {
        if (!row.has_finite_likelihood()) {
            throw NotFinite("target[" + std::to_string(row.image) +
                            "]: its log-likelihood is not finite: the model has never seen the like");
        }
        Image sides;
        sides.height = targets[row.image].height;
        sides.width = targets[row.image].width;
        results.push_back({std::move(row), std::move(sides), 0.0, std::nullopt});
    });
    std::sort(results.begin(), results.end(),
              [](const Result& a, const Result& b) { return a.row.image < b.row.image; });
    return results;
}

void Pipeline::draw_all(const std::vector<Image>& conditions, const Draw& draw, const Sink& sink) {
    check(draw);
    std::vector<std::uint32_t> samples(draw.samples);
    std::iota(samples.begin(), samples.end(), draw.first_sample);
    const auto levels = std::size_t(manifest().model.levels);
    const Noise noise{draw.temperature.size() == 1 ? std::vector(levels, draw.temperature[0]) : draw.temperature,
                      draw.seed, draw.frame};
    runner_.draw(conditions, samples, noise, draw.keep, sink);
}

void Pipeline::check(const Draw& draw) const {
    const auto levels = std::size_t(manifest().model.levels);
    if (draw.first_sample > std::numeric_limits<std::uint32_t>::max() - (draw.samples - 1)) {
        throw InputError("samples: wanted numbers up to 4294967295, got " + std::to_string(draw.samples) + " from " +
                         std::to_string(draw.first_sample) + " on");
    }
    const bool is_usable = std::all_of(draw.temperature.begin(), draw.temperature.end(),
                                       [](double tau) { return std::isfinite(tau) && tau >= 0; });
    if ((draw.temperature.size() != 1 && draw.temperature.size() != levels) || !is_usable) {
        throw InputError("temperature: wanted one, or " + std::to_string(levels) +
                         ", one per level, finite and 0 or more, got " + std::to_string(draw.temperature.size()));
    }
    if (draw.rank == Rank::consistency) check_has_consistency(manifest().model);
    if (draw.keep.empty()) return;
    const bool falls = std::is_sorted(draw.keep.rbegin(), draw.keep.rend()) && draw.keep.back() >= 1;
    if (draw.keep.size() != levels || !falls || draw.keep[0] != draw.samples) {
        throw InputError("keep: wanted " + std::to_string(levels) + " numbers of samples, one per level from " +
                         std::to_string(draw.samples) + " down, got " + listed(draw.keep));
    }
    if (draw.rank != Rank::likelihood) {
        throw InputError("keep: samples are dropped by their likelihood, so wanted that rank, got consistency");
    }
}

// A row as bytes, with what it is ranked by, the more the better; what is not finite is worse than anything.
Result Pipeline::ranked(Row&& row, const Image& condition, const Draw& draw) const {
    const Model& model = manifest().model;
    if (!is_finite(row)) return {std::move(row), {}, worst, std::nullopt};
    Image image = integers(row.pixels, model.scale * condition.height, model.scale * condition.width);
    double value = std::accumulate(row.per_level.begin(), row.per_level.end(), 0.0);
    std::optional<double> measured;
    if (draw.rank == Rank::consistency) value = *(measured = consistency(model, image, condition));
    if (!draw.with_pixels) row.pixels = {};
    return {std::move(row), std::move(image), value, measured};
}

}  // namespace caflow::runtime
