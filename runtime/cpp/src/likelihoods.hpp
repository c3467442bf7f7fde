// What results say about the likelihood of rows: in parts, and how typical it is where the bundle is calibrated.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "calibration.hpp"
#include "draw.hpp"
#include "image.hpp"
#include "runner.hpp"
#include "typicality.hpp"

namespace caflow::runtime {

// A condition with what judging its targets needs of it, which is the same for all samples.
class Condition {
  public:
    // `image` must outlive it. `scale`: target side / condition side.
    Condition(const Image& image, std::int64_t scale) : image(image), scale_(scale) {}

    double dims() const { return double(image.rgb.size()) * double(scale_ * scale_); }  // values in one target
    const Covariates& covariates() const;  // computed when they are first needed; one thread at a time asks

    const Image& image;

  private:
    std::int64_t scale_;
    mutable std::optional<Covariates> covariates_;
};

// Of one bundle.
class Likelihoods {
  public:
    // `is_calibrated`: false leaves the bundle's calibration unread.
    Likelihoods(const std::filesystem::path& folder, const Model& model, bool is_calibrated);

    // An InputError if the bundle is not calibrated.
    const Calibration& calibration() const;

    // What is typical of samples at a temperature, or one for each level; an InputError if that is not known.
    const Reference& wanted_reference(const std::vector<double>& temperature) const;

    // The same, or nullptr.
    const Reference* reference(const std::vector<double>& temperature) const;

    // Whether what a draw asks for is known; an InputError if not. What is typical of its samples, where they need it.
    const Reference* check_calibrated(const Draw& draw) const;

    // Of a sample of a condition; `reference` is what is typical of such samples.
    Typicality of_sample(const Row& row, const Condition& condition, const Reference& reference) const;

    // Mahalanobis' distance of a sample; NaN where images of its kind are not known.
    double distance_of_sample(const Row& row, const Condition& condition, const Reference& reference) const;

    // Of an image that was scored, where the bundle is calibrated.
    std::optional<Typicality> of_image(const Row& row, const Condition& condition) const;

  private:
    std::filesystem::path folder_;
    std::optional<Calibration> calibration_;
};

}  // namespace caflow::runtime
