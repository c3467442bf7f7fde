#include "latent_statistics.hpp"

#include <cmath>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

// Weights of a window's cells and of pairs of neighbouring cells, each (height, width); 0 for a missing neighbour.
struct Weights {
    Weights(const Tile& window, std::int64_t height, std::int64_t width)
        : cells(cell_weights(window, window.y.length() / height)), right(cells.size(), 0.0), down(cells.size(), 0.0) {
        for (std::int64_t y = 0; y < height; ++y) {
            for (std::int64_t x = 0; x < width; ++x) {
                const auto k = std::size_t(y * width + x);
                if (x + 1 < width) right[k] = cells[k] * cells[k + 1];
                if (y + 1 < height) down[k] = cells[k] * cells[k + std::size_t(width)];
            }
        }
    }

    std::vector<double> cells, right, down;
};

double sum_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum;
}

}  // namespace

LatentStatistics::LatentStatistics(const std::vector<std::vector<std::int64_t>>& channels) {
    for (const std::vector<std::int64_t>& of_level : channels) {
        Level level;
        for (const std::int64_t count : of_level) {
            Block block{count, 0, 0, 0, 0, 0, std::vector(std::size_t(count * (count - 1) / 2), 0.0)};
            level.blocks.push_back(std::move(block));
        }
        levels_.push_back(std::move(level));
    }
}

void LatentStatistics::add(const Tile& window, const std::vector<Latents>& levels) {
    for (std::size_t j = 0; j < levels_.size(); ++j) {
        Level& level = levels_[j];
        const Latents& latents = levels[j];
        std::int64_t channels = 0;
        for (const Block& block : level.blocks) channels += block.channels;
        if (channels != latents.channels) {
            throw BackendError("a graph's latents do not have the channels of the manifest: export the model again");
        }
        const Weights weights(window, latents.height, latents.width);
        const std::size_t plane = weights.cells.size(), width = std::size_t(latents.width);
        level.weight += sum_of(weights.cells);
        level.right += sum_of(weights.right);
        level.down += sum_of(weights.down);
        const float* of_block = latents.z.data();
        std::vector<double> weighted(plane);
        for (Block& block : level.blocks) {
            std::size_t pair = 0;
            for (std::int64_t a = 0; a < block.channels; ++a) {
                const float* z = of_block + std::size_t(a) * plane;
                for (std::size_t k = 0; k < plane; ++k) {
                    const double value = z[k], square = value * value;
                    weighted[k] = weights.cells[k] * value;
                    block.mean += weighted[k];
                    block.energy += weights.cells[k] * square;
                    block.fourth += weights.cells[k] * square * square;
                    if (weights.right[k] > 0) block.right += weights.right[k] * value * z[k + 1];
                    if (weights.down[k] > 0) block.down += weights.down[k] * value * z[k + width];
                }
                for (std::int64_t b = 0; b < a; ++b, ++pair) {
                    const float* other = of_block + std::size_t(b) * plane;
                    double product = 0;
                    for (std::size_t k = 0; k < plane; ++k) product += weighted[k] * other[k];
                    block.products[pair] += product;
                }
            }
            of_block += std::size_t(block.channels) * plane;
        }
    }
}

std::vector<double> LatentStatistics::values() const {
    std::vector<double> all;
    for (const Level& level : levels_) {
        for (const Block& block : level.blocks) {
            const auto channels = double(block.channels);
            const auto mean = [&](double sum, double weight) { return weight > 0 ? sum / (channels * weight) : 0.0; };
            double squares = 0;
            for (const double product : block.products) squares += product * product;
            const auto pairs = double(block.products.size());
            const double cross = pairs > 0 ? std::sqrt(squares / pairs) / level.weight : 0.0;
            all.insert(all.end(), {mean(block.mean, level.weight), mean(block.energy, level.weight),
                                   mean(block.fourth, level.weight), mean(block.right, level.right),
                                   mean(block.down, level.down), cross});
        }
    }
    return all;
}

}  // namespace caflow::runtime
