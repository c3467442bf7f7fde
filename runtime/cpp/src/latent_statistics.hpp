// Statistics of the latents of scored images: six for each block z[i, j]. Unusual images have unusual statistics.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tiles.hpp"

namespace caflow::runtime {

// Latents z of one window of one level j, (channels, height, width): the blocks z[i, j] for i = j, j + 1, … one after
// the other.
struct Latents {
    std::int64_t channels;
    std::int64_t height;
    std::int64_t width;
    std::span<const float> z;
};

// Statistics of one image, accumulated over its windows. Each cell is weighted by the mean weight of its pixels, so
// every pixel of the image counts once, and padding does not count.
class LatentStatistics {
  public:
    // `channels[j]` has the numbers of channels of the blocks z[i, j] for i = j, j + 1, …
    explicit LatentStatistics(const std::vector<std::vector<std::int64_t>>& channels);

    // Add the latents of one window, of every level, coarsest first. Throws a BackendError if channels do not fit.
    void add(const Tile& window, const std::vector<Latents>& levels);

    // Return six statistics of each block, those of level 0 first: the mean, the energy (mean square), the mean fourth
    // power, the mean products with the right and the lower neighbour, and the root mean square of the mean products of
    // pairs of channels.
    std::vector<double> values() const;

  private:
    struct Block {
        std::int64_t channels;
        double mean = 0, energy = 0, fourth = 0, right = 0, down = 0;
        std::vector<double> products;  // sum for each pair of channels
    };
    struct Level {
        double weight = 0;  // sum of the weights of cells
        double right = 0;   // sums of the weights of pairs of neighbours
        double down = 0;
        std::vector<Block> blocks;
    };

    std::vector<Level> levels_;
};

}  // namespace caflow::runtime
