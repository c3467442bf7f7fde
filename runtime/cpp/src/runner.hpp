// Runs images through the graphs: cuts them into windows, draws their noise, runs the items in bounded batches, and
// merges the results.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "batch_size.hpp"
#include "graphs.hpp"
#include "image.hpp"
#include "noise.hpp"
#include "level_chain.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

// Results of one finished (image, sample) pair, merged from its windows.
struct BatchItem {
    std::size_t image = 0;      // index of the image in the call
    std::uint32_t sample = 0;   // number of the sample
    std::vector<float> pixels;  // (H, W, 3) continuous pixel values of a sample; empty for an existing target
    std::vector<MergedMap> maps;
    std::vector<double> per_level;   // log-likelihood in nats, coarsest level first
    std::vector<double> statistics;  // of the latents of an existing target; empty for a sample
    std::int64_t dims = 0;           // number of values that the model draws for the image's condition

    bool has_finite_likelihood() const;
};

// Settings that choose the noise.
struct Noise {
    std::vector<double> temperature;  // of each level, coarsest first
    std::uint32_t seed;
    std::uint32_t frame;
    NoiseSource source = {};  // draws it in the place of draw_noise, if it is not empty
};

// Function that receives the number of finished windows and the number of all windows, over all samples. An exception
// stops the call.
using Progress = std::function<void(std::uint64_t done, std::uint64_t count)>;

// Receives the results and the progress of a call.
struct Sink {
    std::function<void(BatchItem&& item)> take;  // receives finished items
    Progress progress = {};                      // called after each batch, if it is not empty
};

// Conditions as the graphs read them.
struct Prepared {
    std::vector<Image> padded;
    std::vector<std::vector<float>> degradation;  // of each image; empty if the model is not told of it
};

// Runs items. Any thread may use it: its only mutable state is the pixel budget, which is halved when memory runs out.
class Runner {
  public:
    Runner(const Graphs& graphs, std::int64_t pixel_budget, std::int64_t overlap);

    std::int64_t pixel_budget() const { return pixel_budget_; }
    const Graphs& graphs() const { return graphs_; }
    const Model& model() const { return model_; }

    // Draw samples of all conditions and pass each item to `sink` when it is finished, once. `samples` are the numbers
    // of the samples. `keep` is empty, or has the number of samples at each level; dropped samples are not passed to
    // `sink`.
    void draw(const std::vector<Image>& conditions, const std::vector<std::uint32_t>& samples, const Noise& noise,
              const std::vector<std::uint32_t>& keep, const Sink& sink);

    // Compute the likelihood of existing targets and pass each item to `sink` when it is finished, once.
    void score(const std::vector<Image>& targets, const std::vector<Image>& conditions, const Sink& sink);

  private:
    using Windows = std::vector<std::vector<Tile>>;
    using RunBatch = std::function<ScanResult(const Run& units)>;

    Windows windows_of(const std::vector<Image>& conditions, std::int64_t budget) const;
    void within_memory(std::int64_t item_pixels, const Sink& sink,
                       const std::function<void(std::int64_t budget, const Sink& sink)>& run);
    void run_all(const Windows& windows, const std::vector<std::uint32_t>& samples, std::int64_t budget,
                 const std::vector<Image>& conditions, bool with_pixels, const RunBatch& run, const Sink& sink) const;
    Prepared prepared(const std::vector<Image>& conditions) const;
    Arrays encode_units(const Run& units, const Prepared& conditions) const;
    std::vector<Array> draw_noise_of(const Run& units, const Noise& noise) const;
    ScanResult score_run(const Run& units, const std::vector<Image>& padded_targets, const Prepared& conditions) const;
    void check_prunable(const Windows& windows, std::size_t samples, std::int64_t budget) const;
    BatchLimits limits(std::int64_t budget) const { return {budget, graphs_.profile()}; }
    std::int64_t padded_pixels(const std::vector<Image>& conditions) const;
    std::vector<Image> padded(const std::vector<Image>& images, std::int64_t scale) const;

    const Graphs& graphs_;
    const Model& model_;
    std::atomic<std::int64_t> pixel_budget_;
    std::int64_t overlap_;
};

}  // namespace caflow::runtime
