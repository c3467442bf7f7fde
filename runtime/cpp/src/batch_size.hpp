// Plans batches: which items run together, within a bounded number of pixels. An item is one sample of one window of an
// image.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine_sets.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

// Samples of one window of an image. They share the encoding of the window's condition.
struct TileBatch {
    std::size_t image;  // index of the image in the call
    const Tile* window;
    std::vector<std::uint32_t> samples;  // sample numbers, one for each item
};

// One batch: units of one window shape that run at once.
using Run = std::vector<TileBatch>;

// Limits of one batch.
struct BatchLimits {
    std::int64_t pixels;             // pixel budget: target pixels of all items; a single item may have more
    std::optional<Profile> profile;  // sizes that engines accept; none: any size

    // Return the largest height and width of a window, or nothing if any size is accepted.
    std::optional<Sides> largest_sides() const;

    // Return the number of items of a window's shape that fit in a batch, at least one.
    std::size_t items(const Tile& window) const;

    // Return the settings with which this number of items of a target size would fit in one batch, as a text for
    // messages.
    std::string remedy(std::size_t items, std::int64_t height, std::int64_t width) const;
};

// Return batches of units of one window shape, each within the limits of `limits`. A group of samples runs in all windows
// of an image before the next samples begin, so that few images are unfinished at any time.
//
// `windows` are the windows of each image; they must outlive the plan. `canvas_pixels` limits the pixels of the
// unfinished samples of an image that is cut into several windows; one sample is always allowed.
std::vector<Run> plan(const std::vector<std::vector<Tile>>& windows, const std::vector<std::uint32_t>& samples,
                      const BatchLimits& limits, std::int64_t canvas_pixels);

// Return the index of the unit of each item of a batch.
std::vector<std::int64_t> owners(const Run& units);

}  // namespace caflow::runtime
