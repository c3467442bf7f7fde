// What latents of scored images look like: six statistics of each block, which unusual images change.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tiles.hpp"

namespace caflow::runtime {

// The noise z of one window of one level, (channels, height, width), the blocks z[i, j], i = j, j + 1, …, side by side.
struct Latents {
    std::int64_t channels;
    std::int64_t height;
    std::int64_t width;
    std::span<const float> z;
};

// The statistics of one image, put together from its windows. A cell counts by the mean weight of its pixels, so that
// every pixel of the image counts once and those of the padding do not.
class LatentStatistics {
  public:
    // `channels`: of level j's blocks z[i, j], i = j, j + 1, …, coarsest level first.
    explicit LatentStatistics(const std::vector<std::vector<std::int64_t>>& channels);

    // One window's latents, those of every level, coarsest first.
    void add(const Window& window, const std::vector<Latents>& levels);

    // Of each block, level 0's first: mean, energy (mean square), mean fourth power, products of neighbours on the
    // right and below, and the root mean square of the products of different channels.
    std::vector<double> values() const;

  private:
    struct Block {
        std::int64_t channels;
        double mean = 0, energy = 0, fourth = 0, right = 0, down = 0;
        std::vector<double> products;  // of each pair of channels
    };
    struct Level {
        double weight = 0;  // of cells
        double right = 0;   // of pairs of neighbours
        double down = 0;
        std::vector<Block> blocks;
    };

    std::vector<Level> levels_;
};

}  // namespace caflow::runtime
