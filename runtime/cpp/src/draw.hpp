// What is drawn of an image: how many samples, from which noise, and which of them counts.
#pragma once

#include <cstdint>
#include <vector>

#include "bundle.hpp"
#include "runner.hpp"

namespace caflow::runtime {

// What makes one sample better than another.
enum class Rank { likelihood, consistency, typical };

// Samples that are not taken for being untypical; others are drawn in their place.
struct Reject {
    // By its typicality among samples of its temperature; or by that of its image among true images.
    enum class Judge { sample, image };
    // Where all are rejected: the best of them, the input enlarged, or an error.
    enum class Otherwise { best, bicubic, error };

    double alpha = 0;  // a sample of less typicality is rejected; 0 judges nothing
    Judge judge = Judge::sample;
    std::uint32_t redraws = 20;  // samples of an image, at most, in place of rejected ones
    Otherwise otherwise = Otherwise::best;

    bool judges(Judge what) const { return alpha > 0 && judge == what; }
};

struct Draw {
    std::uint32_t samples = 10;
    std::uint32_t first_sample = 0;
    std::uint32_t seed = 0;
    std::uint32_t frame = 0;
    std::vector<double> temperature{0.8};
    std::vector<std::uint32_t> keep;
    Rank rank = Rank::likelihood;
    bool consistent = false;
    Reject reject;
    bool with_pixels = false;

    // Whether a model can be drawn from so; an InputError if not.
    void check(const Model& model) const;

    // What chooses the noise of a model with so many levels.
    Noise noise(std::int64_t levels) const;

    // Of an image, at most.
    std::uint32_t most_samples() const { return samples + (reject.alpha > 0 ? reject.redraws : 0); }
};

}  // namespace caflow::runtime
