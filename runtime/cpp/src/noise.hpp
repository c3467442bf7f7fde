// Base noise as a function of its place: any window, of any sample and frame, drawn alone is what it is in the whole.
//
// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) turns a place into four integers,
// and Box and Muller's transform turns those into four normals. Specified in runtime/README.md.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor.hpp"

namespace caflow::runtime {

using Words = std::array<std::uint32_t, 4>;

// Philox4x32-10.
Words philox(Words counter, std::array<std::uint32_t, 2> key);

// The window of one level, in its positions, of the whole image's noise.
struct NoisePlace {
    std::uint32_t level;
    std::uint32_t top;
    std::uint32_t left;
    std::uint32_t height;
    std::uint32_t width;
    std::uint32_t seed;
    std::uint32_t frame;
};

// z[i, j] of one level j and sample, i = j, j + 1, …, side by side, (channels, height, width): N(0, 1) times
// temperature[i - j]. `channels`: of z[i, j] for each i.
void draw_noise(const NoisePlace& place, std::span<const std::int64_t> channels, std::span<const float> temperature,
                std::uint32_t sample, float* z);

// The noise of one level j for rows of one shape.
struct LevelNoise {
    struct Row {
        std::uint32_t top;
        std::uint32_t left;
        std::uint32_t sample;
    };

    std::uint32_t level;
    std::vector<std::int64_t> channels;  // of z[i, j] for each i
    std::vector<float> temperature;      // the same
    std::uint32_t height;
    std::uint32_t width;
    std::uint32_t seed;
    std::uint32_t frame;
    std::vector<Row> rows;

    Shape shape() const;  // (rows, channels, height, width)
};

Array draw_rows(const LevelNoise& z);

}  // namespace caflow::runtime
