// Cuts an image into windows (tiles) of a bounded size, and merges the results of the windows.
//
// One mechanism handles padding, tiles and the cropping of likelihoods: every window has a weight for each of its rows
// and columns. The weights of a pixel, summed over all windows, are one inside the image and zero in the padding.
// Pixels and log-likelihood maps of windows are added with these weights. An image without padding and tiles is one
// window, whose weights are all one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "image.hpp"

namespace caflow::runtime {

// Extent of a window along one axis of the padded target, in pixels.
struct TileAxis {
    std::int64_t start;          // a multiple of the size multiple
    std::vector<float> weights;  // of each row or column: 0 in the padding, a ramp where windows overlap

    std::int64_t length() const { return std::int64_t(weights.size()); }
    std::int64_t end() const { return start + length(); }
};

// Rectangle of the padded target.
struct Tile {
    TileAxis y;
    TileAxis x;
    std::vector<std::uint8_t> drawn = {};  // (height, width), 1 for pixels that the model draws; empty if it draws all

    std::int64_t pixels() const { return y.length() * x.length(); }
    bool has_shape_of(const Tile& other) const {
        return y.length() == other.y.length() && x.length() == other.x.length();
    }
};

// Height and width, in pixels.
struct Sides {
    std::int64_t height;
    std::int64_t width;
};

// The largest windows that are allowed would consist of nothing but overlap.
class TooSmall : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Return windows that cover a target of `height` × `width` pixels. All have the same shape, with at most `budget`
// pixels. Their sides and positions are multiples of `multiple`. Neighbouring windows overlap by at least `overlap`
// pixels. `largest` limits the sides of a window. Throws TooSmall.
std::vector<Tile> cut(std::int64_t height, std::int64_t width, std::int64_t multiple, std::int64_t budget,
                      std::int64_t overlap, std::optional<Sides> largest = std::nullopt);

// Return the windows of an image that contain a pixel that is drawn, each with its part of these pixels. `drawn` is
// (height, width), 1 for pixels that are drawn.
std::vector<Tile> with_drawn(const std::vector<Tile>& windows, const std::vector<std::uint8_t>& drawn, Sides sides);

// Log-likelihood map of one graph for a whole image, merged from its windows: nats of each cell of cell × cell pixels.
struct MergedMap {
    std::int64_t cell;         // side of a cell, in pixels
    std::int64_t height;       // in cells
    std::int64_t width;        // in cells
    std::vector<double> nats;  // (height, width)

    double sum() const;  // in nats
};

// View of the log-likelihood map of one graph for one window, (height, width) float32, in nats.
struct Map {
    std::int64_t height;
    std::int64_t width;
    std::span<const float> nats;
};

// Pixels and maps of an image, merged from its windows.
class TileCanvas {
  public:
    TileCanvas(std::int64_t height, std::int64_t width) : height(height), width(width) {}

    // Add a window's pixels, (h, w, 3) or empty, and its maps, in the same order for all windows.
    void add(const Tile& window, std::span<const float> pixels, const std::vector<Map>& of_window);

    std::int64_t height;
    std::int64_t width;
    std::size_t windows = 0;      // number of windows added so far
    std::vector<float> pixels;    // (height, width, 3)
    std::vector<MergedMap> maps;  // cropped: a cell at the border contains only its part inside the image

  private:
    void add_pixels(const Tile& window, std::span<const float> given);
};

// Return the mean weight of each cell of a window, (h / cell, w / cell). `cell` is the side of a cell, in pixels. Where
// the model draws only a part of the pixels, a cell counts by its fraction of them.
std::vector<double> cell_weights(const Tile& window, std::int64_t cell);

// Return the sum of a window's map, in nats, weighted by the mean weight of each cell: its part of the whole image's
// map.
double weighted_sum(const Tile& window, const Map& map);

// Return an image padded to `height` × `width` below and on the right: by reflection, or with copies of the edge if the
// image is too small to reflect.
Image pad(const Image& image, std::int64_t height, std::int64_t width);

// Return the sum of the maps of one image as nats per pixel, (height, width). The nats of a cell are spread evenly over
// its pixels.
std::vector<float> map_per_pixel(const std::vector<MergedMap>& maps, std::int64_t height, std::int64_t width);

}  // namespace caflow::runtime
