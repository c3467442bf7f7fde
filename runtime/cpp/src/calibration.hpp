// What is typical of a bundle's model: `calibration.json`, which `caflow calibrate` writes into it.
//
// Reading is strict, as Python's: what is wrong in any way is refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "reference.hpp"

namespace caflow::runtime {

// Ranks of the truth among samples, in one quantity of one level.
struct Coverage {
    std::int64_t level;
    std::string quantity;
    double temperature;
    std::vector<std::int64_t> counts;
};

// The log-likelihood of a sample that every backend draws alike.
struct Canary {
    std::string backend;
    double log_likelihood;
};

struct Calibration {
    std::string manifest_sha256;
    std::int64_t photographs;
    Reference truth;
    std::vector<Reference> samples;
    std::vector<Coverage> coverage;
    Canary canary;

    // Of samples at a temperature; an InputError if that was not calibrated.
    const Reference& of_samples(double temperature) const;
};

// That of a bundle, or nothing where it has none.
std::optional<Calibration> read_calibration(const std::filesystem::path& folder, const Model& model);

}  // namespace caflow::runtime
