// Typicality of an image: a p-value under the distribution of the calibration images. typicality.py has the same in
// Python; docs/reference/typicality.md specifies it.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "calibration.hpp"
#include "image.hpp"

namespace caflow::runtime {

using Covariates = std::array<double, covariate_count>;

// Typicality of one image, for n levels and K measures. NaN or empty if the calibration has no images of its kind
// (coloured or grey); `value` is also NaN if the calibration has no group for its size and complexity.
struct Typicality {
    double value = std::numeric_limits<double>::quiet_NaN();  // fraction of the group that is at most as typical
    Numbers per_level;                                        // (n) two-sided p-value of each level's bits/dim alone
    Numbers residuals;  // (n) residuals of bits/dim, in standard deviations; negative: more likely than expected
    Numbers latents;    // (K − n) residuals of the statistics of latents; empty for samples
    std::string group;  // such as "coloured, small, plain"

    bool is_judged() const;  // whether `value` is known
};

// Return three measures of the complexity of a model's condition, and the number of values that the model draws for it,
// divided by three, all as base-2 logarithms.
Covariates covariates(const Image& condition, const Model& model);

// Return the typicality of an image with these measures, (K), and the covariates `given` of its condition.
Typicality typicality(const TypicalityModel& typicality_model, const Numbers& measures, const Covariates& given);

// Return the Mahalanobis distance of an image from its expected measures; NaN if the image's kind is not known.
double distance_of(const TypicalityModel& typicality_model, const Numbers& measures, const Covariates& given);

// Check that some typicality can be below α in every group, so that images can be rejected. Throws an InputError.
void check_alpha(double alpha, const TypicalityModel& typicality_model);

// Return why an image is untypical, or why it cannot be judged, as a text for people.
std::string reason(const Typicality& found);

}  // namespace caflow::runtime
