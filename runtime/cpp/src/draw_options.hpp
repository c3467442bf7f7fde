// Options of a draw: number of samples, their noise, and how the best sample is chosen.
#pragma once

#include <cstdint>
#include <vector>

#include "bundle.hpp"
#include "runner.hpp"

namespace caflow::runtime {

// Rejection of untypical samples. Further samples are drawn to replace rejected ones.
struct Reject {
    // Judge a sample by its typicality among samples at its temperature, or by that of its image among true images.
    enum class Judge { sample, image };
    // Result if all samples are rejected: the best of them, the enlarged input, or an error.
    enum class Otherwise { keep, bicubic, drop };

    double min_typicality = 0;  // samples whose typicality is below this are rejected; 0 judges nothing
    Judge judge = Judge::sample;
    std::uint32_t redraws = 20;  // largest number of further samples of an image
    Otherwise otherwise = Otherwise::keep;

    // Whether samples are judged in this way.
    bool judges(Judge what) const { return min_typicality > 0 && judge == what; }
};

// Options of a draw, as in caflow_draw_options.
struct DrawOptions {
    std::uint32_t n = 10;
    std::uint32_t first_sample = 0;
    std::uint32_t seed = 0;
    std::uint32_t frame = 0;
    std::vector<double> temperature;
    std::vector<std::uint32_t> keep;
    Rank rank = Rank::likelihood;
    bool consistent = false;
    Reject reject;
    bool with_pixels = false;
    Progress progress;

    // Check that the options are valid for a bundle. Throws an InputError.
    void check(const Manifest& manifest) const;

    // Return the settings of the noise for a model with this number of levels.
    Noise noise(std::int64_t levels) const;

    // Largest number of samples of an image, including further samples for rejected ones.
    std::uint32_t most_samples() const { return n + (reject.min_typicality > 0 ? reject.redraws : 0); }
};

}  // namespace caflow::runtime
