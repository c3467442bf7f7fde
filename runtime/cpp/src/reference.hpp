// What is typical of images, as records that refuse impossible numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strict_json.hpp"

namespace caflow::runtime {

// Covariates of a condition: three complexities, then the size.
constexpr std::size_t complexities = 3, covariate_count = 4;
// Terms of the basis: 1, the covariates, the square of the size, with which spreads end, and products of complexities.
constexpr std::size_t spread_count = 6, basis_count = 12;
// Places among the covariates: of what colours add to differences of neighbours, of fine detail, of the size.
constexpr std::size_t colour_at = 1, detail_at = 2, size_at = 3;

using Numbers = std::vector<double>;

// Images of similar sizes and complexities, among which typicality is a rank.
struct Group {
    std::string name;      // for people, such as "small, plain"; empty where there is one group alone
    Numbers sizes;         // the lowest of that covariate, and the first that is too high
    Numbers complexities;  // the same
    std::int64_t images;
    Numbers distances;  // quantiles of Mahalanobis' distance of the residuals

    bool holds(double size, double complexity) const {
        return sizes[0] <= size && size < sizes[1] && complexities[0] <= complexity && complexity < complexities[1];
    }
};

// What is typical of images of one kind, coloured or grey: K measures are around `mean` · x with the standard deviation
// exp(`log_spread` · x), x the basis of the condition's covariates.
struct ImageKind {
    Numbers lowest, highest;  // of the covariates: outside of these the nearest counts
    Numbers centre, scale;
    std::vector<Numbers> mean;        // (K, 12)
    std::vector<Numbers> log_spread;  // (K, 6)
    std::int64_t images;
    std::vector<Numbers> precision;  // (K, K) inverse covariance of the residuals
    std::vector<Group> groups;
    std::vector<Numbers> residuals;  // quantiles of the residuals of each level's bits per dimension
    Numbers bits_per_dim;
    std::vector<Numbers> bits_per_dim_per_level;

    std::size_t measures() const { return mean.size(); }
    std::size_t levels() const { return residuals.size(); }
    const Group* group_of(double size, double complexity) const;  // or nullptr
};

// What is typical of true images, or of samples at one temperature.
struct Reference {
    std::optional<double> temperature;  // of samples
    std::optional<ImageKind> coloured;       // one of both is there
    std::optional<ImageKind> grey;

    std::vector<const ImageKind*> kinds() const;
    std::int64_t images() const;
    double smallest() const;  // in some group no image has a typicality below this
};

// A reference, strictly; `where` is for messages.
Reference read_reference(const Json& value, const std::string& where);

// As it is hashed.
std::string as_json(const Reference& reference);

// Numbers of a calibration, of which products are still finite.
double as_usual_number(const Json& value, const std::string& where);
double as_positive(const Json& value, const std::string& where);
std::int64_t as_positive_count(const Json& value, const std::string& where);

}  // namespace caflow::runtime
