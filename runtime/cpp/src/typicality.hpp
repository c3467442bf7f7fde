// How typical an image is of what a calibration saw: a p-value, from all that was measured of the image.
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

// Of one image of n levels and K measures. NaN of a kind or group that the calibration does not know.
struct Typicality {
    double value = std::numeric_limits<double>::quiet_NaN();  // share of its group's images that are no more typical
    Numbers per_level;  // (n) the same of each level's bits/dim by themselves, in both directions
    Numbers residuals;  // (n) bits/dim above what is expected, in standard deviations
    Numbers latents;    // (K − n) the same of statistics of latents
    std::string group;  // such as "coloured, small, plain"

    bool is_judged() const;
};

// Three measures of a condition's complexity, and the size of its target, all as base-2 logarithms.
Covariates covariates(const Image& condition, std::int64_t scale);

// Of an image with those measures and that condition's covariates.
Typicality typicality(const Reference& reference, const Numbers& measures, const Covariates& given);

// Mahalanobis' distance from what is typical; NaN where the image's kind is not known.
double distance_of(const Reference& reference, const Numbers& measures, const Covariates& given);

// Whether anything can be of less typicality than α; an InputError if not.
void check_alpha(double alpha, const Reference& reference);

// What is untypical of an image, for people.
std::string reason(const Typicality& found);

}  // namespace caflow::runtime
