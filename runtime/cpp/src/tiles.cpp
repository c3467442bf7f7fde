#include "tiles.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

namespace caflow::runtime {

namespace {

std::int64_t up_to_multiple(std::int64_t side, std::int64_t multiple) {
    return (side + multiple - 1) / multiple * multiple;
}

// Return the sides of a window within the budget, as square as the image allows.
Sides window_sides(std::int64_t height, std::int64_t width, std::int64_t multiple, std::int64_t budget) {
    if (height <= budget / width) return {height, width};
    if (width < height) {
        const Sides turned = window_sides(width, height, multiple, budget);
        return {turned.width, turned.height};
    }
    const auto root = std::int64_t(std::sqrt(double(budget)));
    const std::int64_t tall = std::min(height, std::max(multiple, root / multiple * multiple));
    return {tall, std::min(width, std::max(multiple, budget / tall / multiple * multiple))};
}

// Return how far a window's weight has risen at `place`, from 0 to 1. The weight rises linearly over half of the
// overlap, around the middle of the overlap, `edge`. Pixels at the very border of a window get no weight, because there
// the graphs see the least of the surroundings.
double rise(double place, double edge, std::int64_t overlap) {
    return std::clamp((place - edge) / std::max(1.0, double(overlap) / 2) + 0.5, 0.0, 1.0);
}

// Return evenly spread windows along an axis. All have the same length, at most `side`.
std::vector<TileAxis> cut_axis(std::int64_t length, std::int64_t padded, std::int64_t side, std::int64_t multiple,
                               std::int64_t overlap) {
    const std::int64_t count = side >= padded ? 1 : (padded - overlap + side - overlap - 1) / (side - overlap);
    // Use the smallest side with this number of windows, so that an image slightly over the budget costs little more.
    const std::int64_t needed = padded + (count - 1) * overlap, parts = count * multiple;
    side = std::min(side, (needed + parts - 1) / parts * multiple);
    const std::int64_t last = (padded - side) / multiple;
    const auto start = [&](std::int64_t k) { return multiple * (k * last / std::max<std::int64_t>(1, count - 1)); };
    const auto edge = [&](std::int64_t k) { return double(start(k - 1) + side + start(k)) / 2; };
    std::vector<TileAxis> axes;
    for (std::int64_t k = 0; k < count; ++k) {
        TileAxis axis{start(k), std::vector<float>(std::size_t(side), 0.0f)};
        for (std::int64_t at = axis.start; at < std::min(axis.start + side, length); ++at) {
            const double place = double(at) + 0.5;
            const double begins = k > 0 ? rise(place, edge(k), overlap) : 1.0;
            const double ends = k + 1 < count ? rise(place, edge(k + 1), overlap) : 0.0;
            axis.weights[std::size_t(at - axis.start)] = float(begins - ends);
        }
        axes.push_back(std::move(axis));
    }
    return axes;
}

// Return, for each pixel of a padded axis, the index of its source pixel in an axis of `side` pixels.
std::vector<std::int64_t> sources(std::int64_t side, std::int64_t padded) {
    const bool reflects = padded - side < side;
    std::vector<std::int64_t> from(static_cast<std::size_t>(padded));
    for (std::int64_t k = 0; k < padded; ++k) {
        from[std::size_t(k)] = k < side ? k : reflects ? 2 * (side - 1) - k : side - 1;
    }
    return from;
}

// Return the length of a cell inside the image: a cell at the border may reach into the padding, which counts nothing.
std::int64_t pixels_of_cell(std::int64_t number, std::int64_t cell, std::int64_t side) {
    return std::min(cell, side - number * cell);
}

// Return the mean weight of each cell along an axis.
std::vector<double> mean_weights(const TileAxis& axis, std::int64_t cell) {
    std::vector<double> means;
    for (std::int64_t at = 0; at < axis.length(); at += cell) {
        const auto first = axis.weights.begin() + at;
        means.push_back(std::accumulate(first, first + cell, 0.0) / double(cell));
    }
    return means;
}

}  // namespace

std::vector<double> cell_weights(const Tile& window, std::int64_t cell) {
    const std::vector<double> rows = mean_weights(window.y, cell), columns = mean_weights(window.x, cell);
    std::vector<double> weights;
    weights.reserve(rows.size() * columns.size());
    for (const double row : rows) {
        for (const double column : columns) weights.push_back(row * column);
    }
    if (window.drawn.empty()) return weights;
    std::vector<std::int64_t> drawn(weights.size());  // number of pixels of each cell that are drawn
    for (std::int64_t y = 0; y < window.y.length(); ++y) {
        for (std::int64_t x = 0; x < window.x.length(); ++x) {
            const std::int64_t at = y / cell * std::int64_t(columns.size()) + x / cell;
            drawn[std::size_t(at)] += window.drawn[std::size_t(y * window.x.length() + x)];
        }
    }
    for (std::size_t k = 0; k < weights.size(); ++k) weights[k] *= double(drawn[k]) / double(cell * cell);
    return weights;
}

std::vector<Tile> cut(std::int64_t height, std::int64_t width, std::int64_t multiple, std::int64_t budget,
                      std::int64_t overlap, std::optional<Sides> largest) {
    const Sides padded{up_to_multiple(height, multiple), up_to_multiple(width, multiple)};
    const Sides bounded =
        largest ? Sides{std::min(padded.height, largest->height), std::min(padded.width, largest->width)} : padded;
    const Sides sides = window_sides(bounded.height, bounded.width, multiple, budget);
    overlap = up_to_multiple(overlap, multiple);
    const auto is_all_overlap = [&](std::int64_t side, std::int64_t whole) {
        return side < whole && side <= 2 * overlap;
    };
    if (is_all_overlap(sides.height, padded.height) || is_all_overlap(sides.width, padded.width)) {
        throw TooSmall("tiles of at most " + std::to_string(sides.width) + "×" + std::to_string(sides.height) +
                       " pixels are too small for an overlap of " + std::to_string(overlap) + " pixels on both sides");
    }
    std::vector<Tile> windows;
    for (const TileAxis& y : cut_axis(height, padded.height, sides.height, multiple, overlap)) {
        for (const TileAxis& x : cut_axis(width, padded.width, sides.width, multiple, overlap))
            windows.push_back({y, x});
    }
    return windows;
}

std::vector<Tile> with_drawn(const std::vector<Tile>& windows, const std::vector<std::uint8_t>& drawn, Sides sides) {
    std::vector<Tile> kept;
    for (Tile window : windows) {
        const std::int64_t rows = std::min(window.y.end(), sides.height) - window.y.start;
        const std::int64_t columns = std::min(window.x.end(), sides.width) - window.x.start;
        window.drawn.resize(std::size_t(window.pixels()));
        for (std::int64_t y = 0; y < rows; ++y) {
            const auto from = drawn.begin() + (window.y.start + y) * sides.width + window.x.start;
            std::copy_n(from, columns, window.drawn.begin() + y * window.x.length());
        }
        if (std::find(window.drawn.begin(), window.drawn.end(), 1) != window.drawn.end()) {
            kept.push_back(std::move(window));
        }
    }
    return kept;
}

double MergedMap::sum() const { return std::accumulate(nats.begin(), nats.end(), 0.0); }

void TileCanvas::add(const Tile& window, std::span<const float> given, const std::vector<Map>& of_window) {
    ++windows;
    if (!given.empty()) add_pixels(window, given);
    const bool is_first = maps.empty();
    for (std::size_t k = 0; k < of_window.size(); ++k) {
        const Map& map = of_window[k];
        const std::int64_t cell = window.y.length() / map.height;
        if (is_first) {
            const std::int64_t rows = (height + cell - 1) / cell, columns = (width + cell - 1) / cell;
            maps.push_back({cell, rows, columns, std::vector<double>(std::size_t(rows * columns))});
        }
        MergedMap& whole = maps[k];
        const std::vector<double> weights = cell_weights(window, cell);
        const std::int64_t top = window.y.start / cell, left = window.x.start / cell;
        for (std::int64_t row = 0; row < std::min(map.height, whole.height - top); ++row) {
            const float* from = map.nats.data() + row * map.width;
            double* to = whole.nats.data() + (top + row) * whole.width + left;
            const std::int64_t columns = std::min(map.width, whole.width - left);
            for (std::int64_t k2 = 0; k2 < columns; ++k2) {
                to[k2] += double(from[k2]) * weights[std::size_t(row * map.width + k2)];
            }
        }
    }
}

void TileCanvas::add_pixels(const Tile& window, std::span<const float> given) {
    const std::int64_t rows = std::min(window.y.length(), height - window.y.start);
    const std::int64_t columns = std::min(window.x.length(), width - window.x.start);
    const bool is_whole = rows == height && columns == width;
    if (pixels.empty()) pixels.resize(std::size_t(height * width) * 3);
    for (std::int64_t y = 0; y < rows; ++y) {
        const float* from = given.data() + y * window.x.length() * 3;
        float* to = pixels.data() + ((window.y.start + y) * width + window.x.start) * 3;
        if (is_whole) {
            std::copy_n(from, columns * 3, to);
            continue;
        }
        for (std::int64_t x = 0; x < columns; ++x) {
            const float weight = window.y.weights[std::size_t(y)] * window.x.weights[std::size_t(x)];
            for (std::int64_t c = 3 * x; c < 3 * x + 3; ++c) to[c] += weight * from[c];
        }
    }
}

double weighted_sum(const Tile& window, const Map& map) {
    const std::vector<double> weights = cell_weights(window, window.y.length() / map.height);
    return std::inner_product(map.nats.begin(), map.nats.end(), weights.begin(), 0.0);
}

Image pad(const Image& image, std::int64_t height, std::int64_t width) {
    if (height == image.height && width == image.width) return image;
    const std::vector<std::int64_t> rows = sources(image.height, height), columns = sources(image.width, width);
    const std::int64_t channels = image.channels;
    Image padded(height, width, channels);
    for (std::int64_t y = 0; y < height; ++y) {
        const std::uint8_t* from = image.row(rows[std::size_t(y)]);
        std::uint8_t* to = padded.row(y);
        for (std::int64_t x = 0; x < width; ++x) {
            std::copy_n(from + channels * columns[std::size_t(x)], channels, to + channels * x);
        }
    }
    return padded;
}

std::vector<float> map_per_pixel(const std::vector<MergedMap>& maps, std::int64_t height, std::int64_t width) {
    std::vector<double> total(static_cast<std::size_t>(height * width));
    for (const MergedMap& map : maps) {
        for (std::int64_t y = 0; y < height; ++y) {
            const std::int64_t row = y / map.cell;
            const std::int64_t rows = pixels_of_cell(row, map.cell, height);
            for (std::int64_t x = 0; x < width; ++x) {
                const std::int64_t column = x / map.cell;
                const std::int64_t pixels = rows * pixels_of_cell(column, map.cell, width);
                total[std::size_t(y * width + x)] += map.nats[std::size_t(row * map.width + column)] / double(pixels);
            }
        }
    }
    return {total.begin(), total.end()};
}

}  // namespace caflow::runtime
