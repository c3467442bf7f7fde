// Base noise as a function of its place: any window, of any sample and frame, drawn alone is what it is in the whole.
//
// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) turns a place into four integers,
// and Box and Muller's transform turns those into four normals. Specified in docs/reference/computation.md.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
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

// Noise of an AR(1) process over a scene's frames, each N(0, 1) by itself; a function of the frame's number.
class DriftingNoise {
  public:
    // Each frame's noise is `persistence` ρ times the last one's and √(1 − ρ²) times new noise.
    explicit DriftingNoise(double persistence);

    // A scene begins with that frame.
    void restart(std::uint32_t first);

    // As `draw_rows` above; within a scene the frames' numbers never fall.
    Array draw_rows(const LevelNoise& z);

  private:
    struct Place {
        std::uint32_t level, top, left, height, width, sample;
        auto operator<=>(const Place&) const = default;
    };
    struct Drawn {
        std::uint32_t frame;
        std::vector<float> normals;
    };

    const std::vector<float>& normals_of(const LevelNoise& z, const LevelNoise::Row& row);

    float kept_;   // share of the last frame's noise
    float fresh_;  // and of new noise
    std::uint32_t first_ = 0;
    std::map<Place, Drawn> last_;
};

}  // namespace caflow::runtime
