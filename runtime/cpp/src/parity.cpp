#include "parity.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <span>
#include <sstream>

#include "errors.hpp"
#include "noise.hpp"
#include "level_chain.hpp"

namespace caflow::runtime {

namespace {

constexpr std::int64_t max_items = 6, max_images = 2;
constexpr std::int64_t height_in_multiples = 2, width_in_multiples = 3;
constexpr float temperature = 0.8f;

// Largest errors that are allowed, as in Python's tolerances.py.
struct Tolerances {
    double pixels;          // as a fraction of full scale
    double log_likelihood;  // relative
};

const std::map<std::string, Tolerances>& tolerances() {
    static const auto& known = *new std::map<std::string, Tolerances>{
        {"fp32", {1e-4, 1e-5}}, {"fp16", {5e-2, 1e-3}}, {"bf16", {5e-1, 1e-2}}, {"int8", {2e-1, 5e-2}}};
    return known;
}

// Inputs of the graphs.
struct Case {
    Array condition;
    Array image;  // index of each item's condition
    std::vector<Array> noise;
};

// Return a test case that the graphs accept: smooth conditions, and noise.
Case case_for(const Model& model, const std::optional<Profile>& profile) {
    std::int64_t items = max_items, height = height_in_multiples * model.size_multiple,
                 width = width_in_multiples * model.size_multiple;
    if (profile) {
        items = std::min(items, profile->batch_size);
        height = std::min(height, profile->height);
        width = std::min(width, profile->width);
    }
    const std::int64_t images = std::min(items, max_images);
    const std::int64_t channels = model.condition_channels;
    const Shape shape{images, height / model.scale, width / model.scale, channels};
    std::vector<std::uint8_t> smooth;
    for (std::int64_t k = 0; k < shape[0] * shape[1] * shape[2] * channels; ++k) {
        const double x = double(k / channels % shape[2]), y = double(k / channels / shape[2]);
        smooth.push_back(std::uint8_t(128 + 60 * std::sin(y / 3) + 50 * std::cos(x / 4 + double(k % channels))));
    }
    std::vector<std::int64_t> image;
    for (std::int64_t item = 0; item < items; ++item) image.push_back(item * images / items);
    Case found{make_array(shape, std::move(smooth)), make_array({items}, std::move(image)), {}};
    for (std::int64_t level = 0; level < model.levels; ++level) {
        const auto& channels = model.noise_channels[std::size_t(level)];
        const std::int64_t cell = model.noise_cell(level);
        LevelNoise z{std::uint32_t(level),
                     channels,
                     std::vector(channels.size(), temperature),
                     std::uint32_t(height / cell),
                     std::uint32_t(width / cell),
                     0,
                     0,
                     {}};
        for (std::int64_t item = 0; item < items; ++item) z.items.push_back({0, 0, std::uint32_t(item)});
        found.noise.push_back(draw_noise(z));
    }
    return found;
}

// Return the log-likelihood of each item, in nats.
std::vector<double> log_likelihoods(const ScanResult& items) {
    std::vector<double> sums(items.kept.size(), 0.0);
    for (const auto& level : items.maps) {
        for (const Array& map : level) {
            const std::span<const float> values = floats_of(map);
            for (std::size_t k = 0; k < values.size(); ++k) sums[k * sums.size() / values.size()] += values[k];
        }
    }
    return sums;
}

// Throw a BackendError if the largest of some errors is larger than allowed, or NaN.
void check(const Graphs& tried, const char* what, const std::vector<double>& errors, double allowed) {
    double worst = 0;
    for (const double error : errors) {
        if (!(error <= worst)) worst = error;
        if (std::isnan(error)) break;
    }
    if (worst <= allowed) return;
    std::ostringstream text;
    text << tried.backend() << " is not used, because its results differ from those of the CPU: " << what
         << ": the error is " << worst << ", at most " << allowed << " is allowed: use another backend";
    throw BackendError(text.str());
}

void check_pixels(const Graphs& tried, const ScanResult& ours, const ScanResult& exact, double allowed) {
    const std::span<const float> found = floats_of(ours.pixels), expected = floats_of(exact.pixels);
    double full_scale = 256;
    for (const float value : expected) full_scale = std::max(full_scale, double(std::abs(value)));
    std::vector<double> errors;
    for (std::size_t k = 0; k < expected.size(); ++k) errors.push_back(std::abs(found[k] - expected[k]) / full_scale);
    check(tried, "pixels, as a fraction of full scale", errors, allowed);
}

void check_likelihoods(const Graphs& tried, const char* what, const ScanResult& ours, const ScanResult& exact,
                       double allowed) {
    const std::vector<double> found = log_likelihoods(ours), expected = log_likelihoods(exact);
    const double one_bit = std::numbers::ln2 * double(exact.pixels->count() / expected.size());
    std::vector<double> errors;
    for (std::size_t item = 0; item < expected.size(); ++item) {
        // A log-likelihood near zero is a sum of large terms that cancel, so its relative error means nothing.
        errors.push_back(std::abs(found[item] - expected[item]) / std::max(std::abs(expected[item]), one_bit));
    }
    check(tried, what, errors, allowed);
}

}  // namespace

void check_parity(const Graphs& tried, const Graphs& exact) {
    const Model& model = tried.manifest().model;
    const Tolerances& allowed = tolerances().at(tried.manifest().precision);
    const Case inputs = case_for(model, tried.profile());
    const Arrays here = encode(tried, inputs.condition), encoded = encode(exact, inputs.condition);
    const ScanResult ours = sample(tried, here, inputs.image, inputs.noise, Prune());
    const ScanResult drawn = sample(exact, encoded, inputs.image, inputs.noise, Prune());
    check_pixels(tried, ours, drawn, allowed.pixels);
    check_likelihoods(tried, "log-likelihood of samples, relative", ours, drawn, allowed.log_likelihood);
    const ScanResult scored = score(exact, encoded, inputs.image, drawn.pixels);
    check_likelihoods(tried, "log-likelihood of images, relative", score(tried, here, inputs.image, drawn.pixels),
                      scored, allowed.log_likelihood);
}

}  // namespace caflow::runtime
