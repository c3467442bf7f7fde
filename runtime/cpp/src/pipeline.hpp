// What the C interface shows, in C++: images in; samples with likelihoods, best-of-N, and scores out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "choice.hpp"
#include "draw.hpp"
#include "graphs.hpp"
#include "image.hpp"
#include "likelihoods.hpp"
#include "runner.hpp"
#include "stream.hpp"

namespace caflow::runtime {

struct Settings {
    std::string backend = "auto";
    std::string engine_cache;
    int threads = 0;
    std::int64_t pixel_budget = 1 << 20;
    std::int64_t overlap = 64;
    bool is_calibrated = true;  // false leaves the bundle's calibration unread
};

// A model that is ready to run. Any number of threads may use one at the same time.
class Pipeline {
  public:
    Pipeline(const std::filesystem::path& folder, const Settings& settings);

    const Manifest& manifest() const { return graphs_.manifest(); }
    const std::string& backend() const { return graphs_.backend(); }
    std::int64_t pixel_budget() const { return runner_.pixel_budget(); }

    // The best of each condition's samples, in the conditions' order.
    std::vector<Result> best_of(const std::vector<Image>& conditions, const Draw& draw);

    // All samples of each condition, the best of each first.
    std::vector<Result> sample(const std::vector<Image>& conditions, const Draw& draw);

    // Targets, in their order. `alpha`: those of less typicality are rejected; 0 judges nothing.
    std::vector<Result> score(const std::vector<Image>& targets, const std::vector<Image>& conditions, double alpha);

    // Frames of a video, one after the other. The pipeline must outlive it.
    Stream open_stream(const Draw& draw, const FrameNoise& noise) { return {runner_, likelihoods_, draw, noise}; }

  private:
    Graphs graphs_;
    Runner runner_;
    Likelihoods likelihoods_;
};

}  // namespace caflow::runtime
