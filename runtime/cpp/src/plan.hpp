// Which rows run together: images, their windows and their samples, in runs of a bounded number of pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "tiles.hpp"

namespace caflow::runtime {

// Rows that share a window of an image, and with it an encoding of the condition.
struct Unit {
    std::size_t image;
    const Window* window;
    std::vector<std::uint32_t> samples;
};

using Run = std::vector<Unit>;

// Runs of units of one window shape, at most `pixel_budget` pixels (or one row) each. All windows of a sample come
// before the next samples' begin, so that few images are unfinished at any time.
//
// `windows`: of each image; they must outlive the plan. `canvas_pixels`: pixels of an image in several windows that may
// be unfinished; at least one sample is.
std::vector<Run> plan(const std::vector<std::vector<Window>>& windows, const std::vector<std::uint32_t>& samples,
                      std::int64_t pixel_budget, std::int64_t canvas_pixels);

// Which unit each row of a run is of.
std::vector<std::int64_t> owners(const Run& units);

// How many rows of a window's shape fit the budget.
std::size_t rows_per_run(const Window& window, std::int64_t pixel_budget);

}  // namespace caflow::runtime
