// Judges items by their likelihoods with the calibration of a bundle.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "calibration.hpp"
#include "image.hpp"
#include "runner.hpp"
#include "draw_options.hpp"
#include "typicality.hpp"

namespace caflow::runtime {

// A condition with the values that judging its targets requires. They are the same for all of its samples.
class Condition {
  public:
    // `image` and `model` must outlive the object.
    Condition(const Image& image, const Model& model) : image(image), model_(model) {}

    const Covariates& covariates() const;  // computed at the first call; not thread-safe

    const Image& image;

  private:
    const Model& model_;
    mutable std::optional<Covariates> covariates_;
};

// The calibration of one bundle, if it has one. Any thread may use it.
class Likelihoods {
  public:
    // Read the bundle's calibration, unless `is_calibrated` is false.
    Likelihoods(const std::filesystem::path& folder, const Model& model, bool is_calibrated);

    // Return the calibration. Throws an InputError if the bundle is not calibrated.
    const Calibration& calibration() const;

    // Return the distribution of samples at the temperatures of all levels. Throws an InputError if they differ, or if
    // the bundle is not calibrated for them.
    const TypicalityModel& required_typicality_model(const std::vector<double>& temperature) const;

    // Return the distribution of samples at these temperatures, or nullptr if it is not known.
    const TypicalityModel* typicality_model(const std::vector<double>& temperature) const;

    // Check that the calibration has everything that a draw needs. Return the distribution of the draw's samples, or
    // nullptr if the draw does not need it. Throws an InputError.
    const TypicalityModel* check_calibrated(const DrawOptions& draw) const;

    // Return the typicality of a sample as drawn. `typicality_model` is the distribution of such samples.
    Typicality of_sample(const BatchItem& item, const Condition& condition,
                         const TypicalityModel& typicality_model) const;

    // Return the Mahalanobis distance of a sample from its expected measures; NaN if its kind is not known.
    double distance_of_sample(const BatchItem& item, const Condition& condition,
                              const TypicalityModel& typicality_model) const;

    // Return the typicality of a scored image, or nothing if the bundle is not calibrated.
    std::optional<Typicality> of_image(const BatchItem& item, const Condition& condition) const;

  private:
    std::filesystem::path folder_;
    std::optional<Calibration> calibration_;
};

}  // namespace caflow::runtime
