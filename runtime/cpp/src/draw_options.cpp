#include "draw_options.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

constexpr std::uint64_t largest_sample = 0xFFFFFFFE;  // the next number is no_sample

template <class Number>
std::string listed(const std::vector<Number>& numbers) {
    std::string text = "(";
    for (const Number number : numbers) text += (text.size() > 1 ? ", " : "") + shown(number);
    return text + ")";
}

void check_keep(const DrawOptions& draw, std::size_t levels) {
    const bool falls = std::is_sorted(draw.keep.rbegin(), draw.keep.rend()) && draw.keep.back() >= 1;
    if (draw.keep.size() != levels || !falls || draw.keep[0] != draw.n) {
        throw InputError("keep must have " + std::to_string(levels) + " numbers of samples, one per level, from " +
                         std::to_string(draw.n) + " down; got " + listed(draw.keep));
    }
    if (draw.reject.min_typicality > 0) {
        throw InputError("keep drops samples before they can be judged: use either keep or min_typicality");
    }
    if (draw.rank != Rank::likelihood) {
        throw InputError("keep drops samples by likelihood, so rank must be likelihood; got another rank");
    }
}

}  // namespace

void DrawOptions::check(const Manifest& manifest) const {
    const Model& model = manifest.model;
    const auto levels = std::size_t(model.levels);
    if (std::uint64_t{first_sample} + most_samples() > largest_sample + 1) {
        throw InputError("samples must have numbers up to " + std::to_string(largest_sample) + "; got " +
                         std::to_string(most_samples()) + " samples from number " + std::to_string(first_sample) +
                         " on");
    }
    const bool is_usable =
        std::all_of(temperature.begin(), temperature.end(), [](double tau) { return std::isfinite(tau) && tau >= 0; });
    if ((temperature.size() != 1 && temperature.size() != levels) || !is_usable) {
        throw InputError("temperature must be one number, or " + std::to_string(levels) +
                         " numbers, one per level, all finite and at least 0; got " + listed(temperature));
    }
    if (rank == Rank::consistency && !manifest.has_consistency()) {
        throw InputError("rank 'consistency': this model, of the task '" + model.task + "', has no graph '" +
                         degrade_graph + "' that makes a condition again");
    }
    if (consistent && !(manifest.has_consistency() && model.scale > 1)) {
        throw InputError("consistent results require a model that enlarges; got the task '" + model.task + "'");
    }
    if (!(reject.min_typicality >= 0 && reject.min_typicality < 1)) {
        throw InputError("min_typicality must be at least 0 and below 1; got " + shown(reject.min_typicality));
    }
    if (!keep.empty()) check_keep(*this, levels);
}

Noise DrawOptions::noise(std::int64_t levels) const {
    const bool is_same = temperature.size() == 1;
    return {is_same ? std::vector(std::size_t(levels), temperature[0]) : temperature, seed, frame};
}

}  // namespace caflow::runtime
