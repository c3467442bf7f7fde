// What is drawn of an image: how many samples, from which noise, and which of them counts.
#pragma once

#include <cstdint>
#include <vector>

#include "bundle.hpp"
#include "runner.hpp"

namespace caflow::runtime {

enum class Rank { likelihood, consistency };

struct Draw {
    std::uint32_t samples = 10;
    std::uint32_t first_sample = 0;
    std::uint32_t seed = 0;
    std::uint32_t frame = 0;
    std::vector<double> temperature{0.8};
    std::vector<std::uint32_t> keep;
    Rank rank = Rank::likelihood;
    bool consistent = false;
    bool with_pixels = false;

    // Whether a model can be drawn from so; an InputError if not.
    void check(const Model& model) const;

    // What chooses the noise of a model with so many levels.
    Noise noise(std::int64_t levels) const;
};

}  // namespace caflow::runtime
