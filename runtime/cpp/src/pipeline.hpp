// The model behind the C interface: draws samples, chooses the best of N, and scores existing images.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "calibrated_likelihoods.hpp"
#include "choice.hpp"
#include "graphs.hpp"
#include "image.hpp"
#include "runner.hpp"
#include "draw_options.hpp"
#include "settings.hpp"
#include "stream.hpp"

namespace caflow::runtime {

// A model that is ready to run. Any number of threads may use it at the same time.
class Pipeline {
  public:
    Pipeline(const std::filesystem::path& folder, const Settings& settings);

    const Manifest& manifest() const { return graphs_.manifest(); }
    const std::string& backend() const { return graphs_.backend(); }
    std::int64_t pixel_budget() const { return runner_.pixel_budget(); }

    // Return the best sample of each condition, in the order of the conditions. See draw_best.
    std::vector<Result> best_of(const std::vector<Image>& conditions, const DrawOptions& draw);

    // Return all samples of each condition, the best of each condition first. See draw_all.
    std::vector<Result> sample(const std::vector<Image>& conditions, const DrawOptions& draw);

    // Return the likelihood of each target, in the order of the targets. Targets whose typicality is below `alpha` are
    // rejected; 0 judges nothing. Throws an InputError if the sizes do not fit. See score_all.
    std::vector<Result> score(const std::vector<Image>& targets, const std::vector<Image>& conditions, double alpha);

    // See Backend::set_stopped.
    void set_stopped(bool stopped) { graphs_.set_stopped(stopped); }

    // Open a stream for the frames of one video. The pipeline must outlive the stream.
    Stream open_stream(const DrawOptions& draw, const FrameNoise& noise) {
        return {runner_, likelihoods_, draw, noise};
    }

  private:
    Graphs graphs_;
    Runner runner_;
    Likelihoods likelihoods_;
};

}  // namespace caflow::runtime
