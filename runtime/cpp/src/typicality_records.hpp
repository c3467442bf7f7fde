// Records that describe the distribution of the measures of images. Reading them checks their numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strict_json.hpp"

namespace caflow::runtime {

// Numbers of covariates of a condition: three complexities, and four in total with the size as the last one.
constexpr std::size_t complexities = 3, covariate_count = 4;
// Numbers of terms of the regression. Log standard deviations use the first six: 1, the covariates, and the square of
// the size. Expected values use all twelve, which end with the products of the complexities.
constexpr std::size_t spread_count = 6, basis_count = 12;
// Indices of covariates: additional differences between neighbouring pixels in colour, fine detail, and size.
constexpr std::size_t colour_at = 1, detail_at = 2, size_at = 3;

using Numbers = std::vector<double>;

// Images of similar size and complexity. The typicality of an image is computed from its rank among them.
struct Group {
    std::string name;      // for people, such as "small, plain"; empty if there is only one group
    Numbers sizes;         // lowest size covariate, and the first above the group
    Numbers complexities;  // lowest detail covariate, and the first above the group
    std::int64_t images;   // number of images
    Numbers distances;     // quantiles of the Mahalanobis distances of the residuals

    bool holds(double size, double complexity) const {
        return sizes[0] <= size && size < sizes[1] && complexities[0] <= complexity && complexity < complexities[1];
    }
};

// Distribution of the K measures of one kind of images: coloured or grey. The expected value of a measure is `mean` ·
// x, and its standard deviation is exp(`log_spread` · x), where x are the regression terms of the condition's
// covariates.
struct ImageKind {
    Numbers lowest, highest;          // range of the covariates; values outside are clipped to it
    Numbers centre, scale;            // mean and standard deviation of the clipped covariates
    std::vector<Numbers> mean;        // (K, 12)
    std::vector<Numbers> log_spread;  // (K, 6)
    std::int64_t images;              // number of images of this kind
    std::vector<Numbers> precision;   // (K, K) inverse covariance of the residuals
    std::vector<Group> groups;
    std::vector<Numbers> residuals;               // quantiles of the residuals of each level's bits/dim
    Numbers bits_per_dim;                         // quantiles of the total bits/dim
    std::vector<Numbers> bits_per_dim_per_level;  // quantiles of each level's bits/dim

    std::size_t measures() const { return mean.size(); }
    std::size_t levels() const { return residuals.size(); }
    const Group* group_of(double size, double complexity) const;  // nullptr if there is none
};

// Distribution of the measures of true images, or of samples at one temperature.
struct TypicalityModel {
    std::optional<double> temperature;  // empty for true images
    std::optional<ImageKind> coloured;  // empty if the calibration has too few such images
    std::optional<ImageKind> grey;      // the same for grey images; at least one of both is known

    std::vector<const ImageKind*> kinds() const;  // the known ones, coloured first
    std::int64_t images() const;                  // number of images of all kinds
    double smallest() const;                      // lowest possible typicality in the smallest group
};

// Read a typicality model and check it. `where` is its place for messages. Throws a BundleError.
TypicalityModel read_typicality_model(const Json& value, const std::string& where);

// Return a typicality model as the JSON text that is hashed for the checksum.
std::string as_json(const TypicalityModel& typicality_model);

// Read a number of a calibration. `where` is its place for messages. Throws a BundleError if its absolute value is so
// large that a product of several such numbers might not be finite.
double as_usual_number(const Json& value, const std::string& where);

// Read such a number that is not below 0.
double as_positive(const Json& value, const std::string& where);

// Read an integer from 1 to 2^31 − 1.
std::int64_t as_positive_count(const Json& value, const std::string& where);

}  // namespace caflow::runtime
