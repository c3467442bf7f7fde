// Which rows run together: images, their windows and their samples, in runs of a bounded number of pixels.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine_sets.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

// Rows that share a window of an image, and with it an encoding of the condition.
struct Unit {
    std::size_t image;
    const Window* window;
    std::vector<std::uint32_t> samples;
};

using Run = std::vector<Unit>;

// What one run of the graphs holds.
struct Room {
    std::int64_t pixels;            // of the rows' targets together; a single row may have more
    std::vector<Profile> profiles;  // sizes that the graphs take; where there are none, any

    // Height and width of a window, at most.
    std::optional<Sides> largest_sides() const;

    // How many rows of a window's shape, at least one.
    std::size_t rows(const Window& window) const;

    // What to give so that so many rows of targets of a size run at once.
    std::string remedy(std::size_t rows, std::int64_t height, std::int64_t width) const;

  private:
    std::int64_t most_rows(std::int64_t height, std::int64_t width) const;  // of any profile
};

// Runs of units of one window shape, each with room for it. All windows of a sample come before the next samples'
// begin, so that few images are unfinished at any time.
//
// `windows`: of each image; they must outlive the plan. `canvas_pixels`: pixels of an image in several windows that may
// be unfinished; at least one sample is.
std::vector<Run> plan(const std::vector<std::vector<Window>>& windows, const std::vector<std::uint32_t>& samples,
                      const Room& room, std::int64_t canvas_pixels);

// Which unit each row of a run is of.
std::vector<std::int64_t> owners(const Run& units);

}  // namespace caflow::runtime
