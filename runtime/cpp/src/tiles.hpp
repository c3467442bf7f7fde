// How an image is cut into windows of a bounded size, and put together again.
//
// One mechanism does padding, tiles and the cropping of likelihoods: every window has a weight for each of its rows and
// columns. Over all windows the weights of a pixel are one inside the image and none in the padding; pixels, and shares
// at any resolution, are added with them. An image that needs neither is one window of ones.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "image.hpp"

namespace caflow::runtime {

// A window along one axis of the padded target.
struct Axis {
    std::int64_t start;          // a multiple of the size multiple
    std::vector<float> weights;  // 0 in the padding, linear where windows overlap

    std::int64_t length() const { return std::int64_t(weights.size()); }
    std::int64_t end() const { return start + length(); }
};

// A rectangle of the padded target.
struct Window {
    Axis y;
    Axis x;

    std::int64_t pixels() const { return y.length() * x.length(); }
    bool has_shape_of(const Window& other) const {
        return y.length() == other.y.length() && x.length() == other.x.length();
    }
};

struct Sides {
    std::int64_t height;
    std::int64_t width;
};

// The largest windows allowed are no larger than the overlap asked for.
class TooSmall : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Windows of at most `budget` pixels that cover a target of height × width, all of one shape. `multiple`: sides and
// places of windows are multiples of this. `overlap`: of neighbours, at least this many pixels. `largest`: sides that
// no window may be larger than.
std::vector<Window> cut(std::int64_t height, std::int64_t width, std::int64_t multiple, std::int64_t budget,
                        std::int64_t overlap, std::optional<Sides> largest = std::nullopt);

// Nats of an image's cells.
struct Share {
    std::int64_t cell;  // side of a cell in pixels
    std::int64_t height;
    std::int64_t width;
    std::vector<double> nats;  // (height, width)

    double sum() const;
};

// A map of a window, (height, width) float32.
struct Map {
    std::int64_t height;
    std::int64_t width;
    std::span<const float> nats;
};

// An image's pixels and shares, put together from windows.
class Canvas {
  public:
    Canvas(std::int64_t height, std::int64_t width) : height(height), width(width) {}

    // Add a window's pixels, (h, w, 3), of which there may be none, and its shares.
    void add(const Window& window, std::span<const float> pixels, const std::vector<Map>& shares);

    std::int64_t height;
    std::int64_t width;
    std::size_t windows = 0;    // that were added
    std::vector<float> pixels;  // (height, width, 3)
    std::vector<Share> shares;  // cropped: a cell at the border holds only what of it lies in the image

  private:
    void add_pixels(const Window& window, std::span<const float> given);
};

// The mean weight of each cell along an axis.
std::vector<double> mean_weights(const Axis& axis, std::int64_t cell);

// The sum of a window's shares by the mean weight of each cell: what they add to the whole image's.
double weighted_sum(const Window& window, const Map& share);

// An image with more rows and columns below and on the right: by reflection, or by the edge if there is too little.
Image pad(const Image& image, std::int64_t height, std::int64_t width);

// Shares of one image as nats per pixel, (height, width): each cell spread evenly over its pixels.
std::vector<float> share_map(const std::vector<Share>& shares, std::int64_t height, std::int64_t width);

}  // namespace caflow::runtime
