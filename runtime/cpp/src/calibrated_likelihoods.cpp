#include "calibrated_likelihoods.hpp"

#include <algorithm>
#include <numbers>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

Numbers bits_per_level(const BatchItem& item) {
    Numbers bits;
    for (const double nats : item.per_level) bits.push_back(-nats / (double(item.dims) * std::numbers::ln2));
    return bits;
}

}  // namespace

const Covariates& Condition::covariates() const {
    if (!covariates_) covariates_ = runtime::covariates(image, model_);
    return *covariates_;
}

Likelihoods::Likelihoods(const std::filesystem::path& folder, const Model& model, bool is_calibrated)
    : folder_(folder) {
    if (is_calibrated) calibration_ = read_calibration(folder, model);
}

const Calibration& Likelihoods::calibration() const {
    if (calibration_) return *calibration_;
    const std::string folder = folder_.string();
    throw InputError(folder + " is not calibrated: run caflow calibrate " + folder + " --data PHOTOGRAPHS");
}

const TypicalityModel& Likelihoods::required_typicality_model(const std::vector<double>& temperature) const {
    const auto is_other = [&](double tau) { return tau != temperature[0]; };
    if (std::any_of(temperature.begin(), temperature.end(), is_other)) {
        throw InputError("typicality requires one temperature for all levels; got several");
    }
    return calibration().of_samples(temperature[0]);
}

const TypicalityModel* Likelihoods::typicality_model(const std::vector<double>& temperature) const {
    try {
        return &required_typicality_model(temperature);
    } catch (const InputError&) {
        return nullptr;
    }
}

const TypicalityModel* Likelihoods::check_calibrated(const DrawOptions& draw) const {
    const bool judges_samples = draw.reject.judges(Reject::Judge::sample);
    const bool needs_samples = draw.rank == Rank::typical || judges_samples;
    const TypicalityModel* samples = needs_samples ? &required_typicality_model(draw.temperature) : nullptr;
    if (draw.reject.min_typicality > 0) check_alpha(draw.reject.min_typicality, judges_samples ? *samples : calibration().truth);
    return samples;
}

Typicality Likelihoods::of_sample(const BatchItem& item, const Condition& condition,
                                  const TypicalityModel& typicality_model) const {
    return typicality(typicality_model, bits_per_level(item), condition.covariates());
}

double Likelihoods::distance_of_sample(const BatchItem& item, const Condition& condition,
                                       const TypicalityModel& typicality_model) const {
    return distance_of(typicality_model, bits_per_level(item), condition.covariates());
}

std::optional<Typicality> Likelihoods::of_image(const BatchItem& item, const Condition& condition) const {
    if (!calibration_) return std::nullopt;
    Numbers measures = bits_per_level(item);
    measures.insert(measures.end(), item.statistics.begin(), item.statistics.end());
    return typicality(calibration_->truth, measures, condition.covariates());
}

}  // namespace caflow::runtime
