// The calibration of a bundle: `calibration.json`, which `caflow calibrate` writes into the bundle's folder.
//
// Reading is strict, as in Python: any violation of the format is an error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "typicality_records.hpp"

namespace caflow::runtime {

// Ranks of true images among samples, for one quantity of one level.
struct Coverage {
    std::int64_t level;
    std::string quantity;  // "mean" or "variance"
    double temperature;
    std::vector<std::int64_t> counts;  // how often each rank occurred, rank 0 first
};

// Log-likelihood of one fixed sample, which is the same on every backend up to rounding.
struct Canary {
    std::string backend;    // that computed the log-likelihood
    double log_likelihood;  // in nats, not 0
};

// Contents of calibration.json.
struct Calibration {
    std::string manifest_sha256;           // of the calibrated bundle
    std::int64_t photographs;              // that the calibration images are crops of
    TypicalityModel truth;                 // distribution of true images
    std::vector<TypicalityModel> samples;  // distributions of samples, one for each calibrated temperature
    std::vector<Coverage> coverage;
    Canary canary;

    // Return the distribution of samples at a temperature. Throws an InputError if the bundle is not calibrated for it.
    const TypicalityModel& of_samples(double temperature) const;
};

// Return the calibration of a bundle, or nothing if the bundle has none. Throws a BundleError if the file is damaged,
// is of another version, or belongs to another bundle.
std::optional<Calibration> read_calibration(const std::filesystem::path& folder, const Model& model);

}  // namespace caflow::runtime
