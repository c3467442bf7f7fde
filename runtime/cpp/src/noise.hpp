// Base noise as a function of its position. The noise of a window is equal to that part of the noise of the whole
// image, whichever windows, samples and frames are drawn.
//
// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) turns a position into four
// integers, and the Box–Muller transform turns these into four normal numbers. docs/reference/computation.md specifies
// the noise.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "tensor.hpp"

namespace caflow::runtime {

using Words = std::array<std::uint32_t, 4>;

// Return the four words that Philox4x32-10 computes from a counter and a key.
Words philox(Words counter, std::array<std::uint32_t, 2> key);

// Window of the noise of one level of an image, in positions of this level.
struct NoisePlace {
    std::uint32_t level;
    std::uint32_t top;
    std::uint32_t left;
    std::uint32_t height;
    std::uint32_t width;
    std::uint32_t seed;
    std::uint32_t frame;
};

// Write the noise of one level j and one sample to `z`: the blocks z[i, j] for i = j, j + 1, … one after the other, as
// (channels, height, width) float32. Block i is N(0, 1) noise times temperature[i - j]. `channels` has the number of
// channels of each block.
void draw_place(const NoisePlace& place, std::span<const std::int64_t> channels, std::span<const float> temperature,
                std::uint32_t sample, float* z);

// Request for the noise of one level j, for items with windows of one shape.
struct LevelNoise {
    // Position of an item's window, and number of its sample.
    struct BatchItem {
        std::uint32_t top;
        std::uint32_t left;
        std::uint32_t sample;
        auto operator<=>(const BatchItem&) const = default;
    };

    std::uint32_t level;
    std::vector<std::int64_t> channels;  // of each block z[i, j], i = j, j + 1, …
    std::vector<float> temperature;      // of each block
    std::uint32_t height;
    std::uint32_t width;
    std::uint32_t seed;
    std::uint32_t frame;
    std::vector<BatchItem> items;

    Shape shape() const;  // (items, channels, height, width)
    auto operator<=>(const LevelNoise&) const = default;
};

// Function that draws the noise of one level.
using DrawNoise = std::function<Array(const LevelNoise& z)>;

// Function that returns the noise of one level in the place of `draw`, which it may call.
using NoiseSource = std::function<Array(const LevelNoise& z, const DrawNoise& draw)>;

// Return the noise of all items, (items, channels, height, width) float32, in host memory.
Array draw_noise(const LevelNoise& z);

// Noise that all frames of a scene share. It is drawn for the first of them, and kept for the others. It must only be
// used for the sample that the scene keeps, because noise of other samples would be kept in vain. Only one thread at a
// time may use it.
class SceneNoise {
  public:
    // Begin a frame. If any argument has changed, the frame runs differently: forget what was kept. `sample` is the
    // number of the sample that the scene keeps.
    void begin(std::uint32_t scene, std::uint32_t sample, std::int64_t pixel_budget);

    // Return the noise of one level, drawn by `draw`.
    Array draw_noise(const LevelNoise& z, const DrawNoise& draw);

  private:
    std::tuple<std::uint32_t, std::uint32_t, std::int64_t> shared_;
    std::map<LevelNoise, Array> kept_;
};

// Noise that drifts over the frames of a scene, as an AR(1) process. The noise of each frame alone is N(0, 1). It
// depends only on the frame's number and on the first frame of the scene. Only one thread at a time may use it.
class DriftingNoise {
  public:
    // Each frame's noise is ρ times that of the last frame plus √(1 − ρ²) times new noise. ρ is `persistence`, above 0
    // and below 1.
    explicit DriftingNoise(double persistence);

    // Start a new scene, whose first frame has the number `first`.
    void restart(std::uint32_t first);

    // Return the noise of all items like the function draw_noise. Within a scene, frame numbers must not decrease.
    Array draw_noise(const LevelNoise& z);

  private:
    struct NoiseWindow {
        std::uint32_t level, top, left, height, width, sample;
        auto operator<=>(const NoiseWindow&) const = default;
    };
    struct Drawn {
        std::uint32_t frame;
        std::vector<float> normals;
    };

    const std::vector<float>& normals_of(const LevelNoise& z, const LevelNoise::BatchItem& item);

    float kept_;   // factor on the last frame's noise
    float fresh_;  // factor on new noise
    std::uint32_t first_ = 0;
    std::map<NoiseWindow, Drawn> last_;
};

}  // namespace caflow::runtime
