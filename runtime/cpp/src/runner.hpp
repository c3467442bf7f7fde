// Images through the graphs: cut into windows, their noise drawn, run in bounded batches, and put together again.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "batching.hpp"
#include "graphs.hpp"
#include "image.hpp"
#include "noise.hpp"
#include "scan.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

// One finished (image, sample) pair, put together from its windows.
struct Row {
    std::size_t image = 0;
    std::uint32_t sample = 0;
    std::vector<float> pixels;  // (H, W, 3) continuous pixel values, of a sample
    std::vector<Share> shares;
    std::vector<double> per_level;   // nats
    std::vector<double> statistics;  // of the latents of a given target

    bool has_finite_likelihood() const;
};

// What chooses the noise.
struct Noise {
    std::vector<double> temperature;  // of each level
    std::uint32_t seed;
    std::uint32_t frame;
    DriftingNoise* drifting = nullptr;  // draws it, where it drifts
};

using Sink = std::function<void(Row&& row)>;

// Runs rows. Any thread may use it: all that ever changes is the pixel budget, halved when memory runs out.
class Runner {
  public:
    Runner(const Graphs& graphs, std::int64_t pixel_budget, std::int64_t overlap);

    std::int64_t pixel_budget() const { return pixel_budget_; }
    const Model& model() const { return model_; }

    // Samples, by their numbers, of all conditions, as they are finished; with `keep`, one number for each level, those
    // that were not dropped.
    void draw(const std::vector<Image>& conditions, const std::vector<std::uint32_t>& samples, const Noise& noise,
              const std::vector<std::uint32_t>& keep, const Sink& sink);

    // The likelihood of given targets, as they are finished.
    void score(const std::vector<Image>& targets, const std::vector<Image>& conditions, const Sink& sink);

  private:
    using Windows = std::vector<std::vector<Window>>;
    using RunRows = std::function<Rows(const Run& units)>;

    Windows windows_of(const std::vector<Image>& conditions, std::int64_t budget) const;
    void within_memory(std::int64_t rows_pixels, const Sink& sink,
                       const std::function<void(std::int64_t budget, const Sink& sink)>& run);
    void run_all(const Windows& windows, const std::vector<std::uint32_t>& samples, std::int64_t budget,
                 const std::vector<Image>& conditions, bool with_pixels, const RunRows& run, const Sink& sink) const;
    Array conditions_of(const Run& units, const std::vector<Image>& padded) const;
    std::vector<Array> draw_noise_of(const Run& units, const Noise& noise) const;
    Rows score_run(const Run& units, const std::vector<Image>& padded_targets, const std::vector<Image>& padded) const;
    void check_prunable(const Windows& windows, std::size_t samples, std::int64_t budget) const;
    Room room(std::int64_t budget) const { return {budget, graphs_.profiles()}; }
    std::int64_t padded_pixels(const std::vector<Image>& conditions) const;
    std::vector<Image> padded(const std::vector<Image>& images, std::int64_t scale) const;

    const Graphs& graphs_;
    const Model& model_;
    std::atomic<std::int64_t> pixel_budget_;
    std::int64_t overlap_;
};

}  // namespace caflow::runtime
