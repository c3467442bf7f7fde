#include "typicality.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "consistency.hpp"
#include "errors.hpp"
#include "known_values.hpp"

namespace caflow::runtime {

namespace {

constexpr double most_grey = 0.02;  // largest colour covariate of a grey condition; smaller than an effect of rounding
constexpr double usual = 2.58;      // absolute value, in standard deviations, that 1 in 100 normal values exceeds
constexpr double clear = 1;         // absolute residual of a level from which on its direction is part of a reason
constexpr std::array statistic_names{"mean",
                                     "mean square",
                                     "fourth moment",
                                     "correlation to the right",
                                     "correlation downwards",
                                     "correlation of channels"};
constexpr std::size_t mean_square = 1, to_the_right = 3, downwards = 4;  // indices in `statistic_names`

// Means over neighbouring pixels, down and across: of their absolute differences d, and of log₂(1 + d).
struct Steps {
    void add(double a, double b) {
        const double step = std::abs(a - b);
        sum += step;
        logarithms += std::log2(1 + step);
        ++count;
    }

    double mean() const { return count ? sum / double(count) : 0; }
    double mean_logarithm() const { return count ? logarithms / double(count) : 0; }

    double sum = 0, logarithms = 0;
    std::size_t count = 0;
};

// Add the differences of all neighbours in an image. `value(y, x)` returns the pixel in row y and column x.
template <class Value>
void add_steps(Steps& steps, std::int64_t height, std::int64_t width, Value value) {
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
            if (y + 1 < height) steps.add(value(y + 1, x), value(y, x));
            if (x + 1 < width) steps.add(value(y, x + 1), value(y, x));
        }
    }
}

const std::optional<ImageKind>& kind_of(const TypicalityModel& typicality_model, const Covariates& given) {
    return given[colour_at] <= most_grey ? typicality_model.grey : typicality_model.coloured;
}

// Return the terms of the regression: 1, the normalized covariates, the square of the size, and the products of the
// complexities.
std::array<double, basis_count> basis(const ImageKind& kind, const Covariates& given) {
    std::array<double, basis_count> x{1};
    for (std::size_t k = 0; k < covariate_count; ++k) {
        x[k + 1] = (std::clamp(given[k], kind.lowest[k], kind.highest[k]) - kind.centre[k]) / kind.scale[k];
    }
    x[covariate_count + 1] = x[size_at + 1] * x[size_at + 1];
    std::size_t at = spread_count;
    for (std::size_t i = 1; i <= complexities; ++i) {
        for (std::size_t j = i; j <= complexities; ++j) x[at++] = x[i] * x[j];
    }
    return x;
}

// Return the residuals of the measures, (K), in standard deviations.
Numbers standardized(const ImageKind& kind, const Numbers& measures, const Covariates& given) {
    const std::array<double, basis_count> x = basis(kind, given);
    Numbers residuals;
    for (std::size_t k = 0; k < measures.size(); ++k) {
        double expected = 0, log_spread = 0;
        for (std::size_t i = 0; i < basis_count; ++i) expected += kind.mean[k][i] * x[i];
        for (std::size_t i = 0; i < spread_count; ++i) log_spread += kind.log_spread[k][i] * x[i];
        residuals.push_back((measures[k] - expected) / std::exp(log_spread));
    }
    return residuals;
}

double mahalanobis(const ImageKind& kind, const Numbers& residuals) {
    double square = 0;
    for (std::size_t i = 0; i < residuals.size(); ++i) {
        for (std::size_t j = 0; j < residuals.size(); ++j) square += residuals[i] * kind.precision[i][j] * residuals[j];
    }
    return std::isnan(square) ? square : std::sqrt(std::max(0.0, square));  // rounding may give a square below 0
}

// Return the cumulative distribution function at a value, 0…1, interpolated between evenly spaced quantiles.
double rank_among(double value, const Numbers& quantiles) {
    if (std::isnan(value)) return value;
    if (value < quantiles.front()) return 0;
    if (value >= quantiles.back()) return 1;
    const auto above = std::upper_bound(quantiles.begin(), quantiles.end(), value);
    const double low = *(above - 1), high = *above;
    return (double(above - quantiles.begin() - 1) + (value - low) / (high - low)) / double(quantiles.size() - 1);
}

// Return the two-sided p-value of each level's residual.
Numbers per_level(const ImageKind& kind, const Numbers& residuals) {
    Numbers tails;
    const auto images = double(kind.images);
    for (std::size_t j = 0; j < residuals.size(); ++j) {
        const double below = rank_among(residuals[j], kind.residuals[j]);
        tails.push_back(std::min(1.0, (2 + 2 * images * std::min(below, 1 - below)) / (images + 1)));
    }
    return tails;
}

// Return a number with its sign and one decimal, after a point in every locale.
std::string signed_decimal(double value) {
    std::array<char, 320> text{};  // the largest numbers have 309 digits
    char* const end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed, 1).ptr;
    return (std::signbit(value) ? "" : "+") + std::string(text.data(), end);
}

// Return the index of the residual that is farthest from 0.
std::size_t farthest(const Numbers& residuals) {
    const auto is_nearer = [](double a, double b) { return std::abs(a) < std::abs(b); };
    return std::size_t(std::max_element(residuals.begin(), residuals.end(), is_nearer) - residuals.begin());
}

// Return the name of one of `values` statistics of latents. `number` counts through all blocks z[i, j], those of level
// j = 0 first. A model has blocks for all i ≥ j, or, as one with DUAL-GLOW's dependencies, for i = j only.
std::string statistic_name(std::size_t number, std::size_t values, std::size_t levels) {
    const bool has_cross_blocks = values > statistic_names.size() * levels;
    std::size_t block = number / statistic_names.size(), level = 0;
    if (!has_cross_blocks) std::swap(block, level);
    while (block >= levels - level) block -= levels - level++;
    return std::string(statistic_names[number % statistic_names.size()]) + " of z[" + std::to_string(level + block) +
           ", " + std::to_string(level) + "]";
}

// Return the luma of an image as OpenCV computes it, (height, width) uint8.
std::vector<std::uint8_t> grey_of(const Image& image) {
    std::vector<std::uint8_t> grey(std::size_t(image.height * image.width));
    for (std::size_t k = 0; k < grey.size(); ++k) {
        const std::uint8_t* rgb = &image.values[std::size_t(image.channels) * k];
        grey[k] = std::uint8_t((9798 * rgb[0] + 19235 * rgb[1] + 3735 * rgb[2] + (1 << 14)) >> 15);
    }
    return grey;
}

}  // namespace

bool Typicality::is_judged() const { return !std::isnan(value); }

Covariates covariates(const Image& condition, const Model& model) {
    const std::vector<std::uint8_t> grey = grey_of(condition);
    const auto width = std::size_t(condition.width);
    const auto grey_at = [&](std::int64_t y, std::int64_t x) {
        return double(grey[std::size_t(y) * width + std::size_t(x)]);
    };
    Steps steps, colour_steps;
    add_steps(steps, condition.height, condition.width, grey_at);
    const bool sees_colour = model.condition_color == "rgb";
    for (int c = 0; sees_colour && c < 3; ++c) {
        add_steps(colour_steps, condition.height, condition.width,
                  [&](std::int64_t y, std::int64_t x) { 
                      return double(condition.row(y)[condition.channels * x + c]) - grey_at(y, x);
                  });
    }
    const double size = std::log2(double(dims_of(condition, model)) / 3);
    return {std::log2(1 + steps.mean()), std::log2(1 + colour_steps.mean()), steps.mean_logarithm(), size};
}

Typicality typicality(const TypicalityModel& typicality_model, const Numbers& measures, const Covariates& given) {
    const bool is_grey = given[colour_at] <= most_grey;
    Typicality found;
    found.group = is_grey ? "grey" : "coloured";
    const std::optional<ImageKind>& kind = kind_of(typicality_model, given);
    if (!kind) return found;
    const Numbers residuals = standardized(*kind, measures, given);
    const auto end_of_levels = residuals.begin() + std::ptrdiff_t(kind->levels());
    found.residuals.assign(residuals.begin(), end_of_levels);
    found.latents.assign(end_of_levels, residuals.end());
    found.per_level = per_level(*kind, found.residuals);
    const Group* group = kind->group_of(given[size_at], given[detail_at]);
    const std::string name = group ? group->name : "of another size";
    if (!name.empty()) found.group += ", " + name;
    if (!group) return found;
    const double above = 1 - rank_among(mahalanobis(*kind, residuals), group->distances);
    found.value = (1 + double(group->images) * above) / (double(group->images) + 1);
    return found;
}

double distance_of(const TypicalityModel& typicality_model, const Numbers& measures, const Covariates& given) {
    const std::optional<ImageKind>& kind = kind_of(typicality_model, given);
    if (!kind) return std::numeric_limits<double>::quiet_NaN();
    return mahalanobis(*kind, standardized(*kind, measures, given));
}

void check_alpha(double alpha, const TypicalityModel& typicality_model) {
    if (typicality_model.smallest() < alpha && alpha < 1) return;
    throw InputError("min_typicality must be above " + std::to_string(typicality_model.smallest()) +
                     " and below 1; got " + shown(alpha) +
                     ". In the smallest group of the calibration images no "
                     "typicality can be lower: use a larger min_typicality, or calibrate with more photographs");
}

std::string reason(const Typicality& found) {
    if (!found.is_judged()) return "the calibration knows no such images: " + found.group;
    const std::size_t levels = found.residuals.size(), statistics = statistic_names.size();
    Numbers measures = found.residuals;
    measures.insert(measures.end(), found.latents.begin(), found.latents.end());
    double square = usual, wide = 0;  // wide: how alike neighbours are, in both directions
    std::size_t widest = 0;
    for (std::size_t block = levels; block < measures.size(); block += statistics) {
        square = std::max(square, std::abs(measures[block + mean_square]));
        const double both = std::min(measures[block + to_the_right], measures[block + downwards]);
        if (both > wide) wide = both, widest = block + to_the_right;
    }
    const auto [low, high] = std::minmax_element(found.residuals.begin(), found.residuals.end());
    const auto described = [&](const char* words, std::size_t at) {
        const std::string name = at < levels ? "bits/dim of level " + std::to_string(at)
                                             : statistic_name(at - levels, found.latents.size(), levels);
        return std::string(words) + " (" + name + ": " + signed_decimal(measures[at]) + " standard deviations)";
    };
    if (wide > square) return described("colours or contrast unlike its input's", widest);
    if (*low < -clear) return described("softer than its input allows", std::size_t(low - found.residuals.begin()));
    if (*low > clear) {
        return described("noisier or sharper than its input allows", std::size_t(high - found.residuals.begin()));
    }
    return described("unusual structure", farthest(measures));
}

}  // namespace caflow::runtime
