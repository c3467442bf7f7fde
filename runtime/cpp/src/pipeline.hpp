// What the C interface shows, in C++: images in; samples with likelihoods, best-of-N, and scores out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "graphs.hpp"
#include "image.hpp"
#include "runner.hpp"

namespace caflow::runtime {

struct Settings {
    std::string backend = "auto";
    std::string engine_cache;
    int threads = 0;
    std::int64_t pixel_budget = 1 << 20;
    std::int64_t overlap = 64;
};

enum class Rank { likelihood, consistency };

struct Draw {
    std::uint32_t samples = 10;
    std::uint32_t first_sample = 0;
    std::uint32_t seed = 0;
    std::uint32_t frame = 0;
    std::vector<double> temperature{0.8};
    std::vector<std::uint32_t> keep;
    Rank rank = Rank::likelihood;
    bool with_pixels = false;
};

// A row that is given back.
struct Result {
    Row row;  // with its pixels if they were asked for
    Image image;
    double value;  // what it was ranked by
    std::optional<double> consistency;
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

    // Targets, in their order.
    std::vector<Result> score(const std::vector<Image>& targets, const std::vector<Image>& conditions);

  private:
    void draw_all(const std::vector<Image>& conditions, const Draw& draw, const Sink& sink);
    void check(const Draw& draw) const;
    Result ranked(Row&& row, const Image& condition, const Draw& draw) const;

    Graphs graphs_;
    Runner runner_;
};

}  // namespace caflow::runtime
