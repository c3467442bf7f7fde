#include "resizing.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "known_values.hpp"

namespace caflow::runtime {

namespace {

constexpr std::size_t taps = 4;

// Indices and weights of the pixels of the small image that a pixel of the large image comes from, along one axis.
// Outside of the image, the pixels at its edge are repeated.
struct Source {
    std::array<std::size_t, taps> at;
    std::array<float, taps> weights;
};

std::vector<Source> sources_of(std::int64_t side, std::int64_t scale) {
    constexpr float a = -0.75f;  // parameter of Keys' cubic kernel in OpenCV
    const auto near = [](float x) { return ((a + 2) * x - (a + 3)) * x * x + 1; };
    std::vector<Source> all;
    for (std::int64_t k = 0; k < side * scale; ++k) {
        const double place = (double(k) + 0.5) / double(scale) - 0.5;
        const auto first = std::int64_t(std::floor(place));
        const auto x = float(place - double(first));
        Source source{};
        source.weights[0] = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a;
        source.weights[1] = near(x);
        source.weights[2] = near(1 - x);
        source.weights[3] = 1 - source.weights[0] - source.weights[1] - source.weights[2];
        for (std::size_t tap = 0; tap < taps; ++tap) {
            source.at[tap] = std::size_t(std::clamp<std::int64_t>(first - 1 + std::int64_t(tap), 0, side - 1));
        }
        all.push_back(source);
    }
    return all;
}

}  // namespace

std::vector<float> enlarge(const std::vector<float>& small, Sides sides, std::int64_t scale) {
    const std::vector<Source> rows = sources_of(sides.height, scale), columns = sources_of(sides.width, scale);
    const std::size_t narrow = std::size_t(sides.width) * 3, wide = columns.size() * 3;
    std::vector<float> widened(std::size_t(sides.height) * wide);
    for (std::size_t y = 0; y < std::size_t(sides.height); ++y) {
        for (std::size_t x = 0; x < wide; ++x) {
            const Source& source = columns[x / 3];
            float value = 0;
            for (std::size_t tap = 0; tap < taps; ++tap) {
                value += source.weights[tap] * small[y * narrow + 3 * source.at[tap] + x % 3];
            }
            widened[y * wide + x] = value;
        }
    }
    std::vector<float> large(rows.size() * wide, 0.0f);
    for (std::size_t y = 0; y < rows.size(); ++y) {
        for (std::size_t tap = 0; tap < taps; ++tap) {
            const float* from = widened.data() + rows[y].at[tap] * wide;
            for (std::size_t x = 0; x < wide; ++x) large[y * wide + x] += rows[y].weights[tap] * from[x];
        }
    }
    return large;
}

std::vector<float> enlarge_pixels(const Image& condition, std::int64_t scale) {
    const Image image = without_mask(condition);
    std::vector<float> large = enlarge({image.values.begin(), image.values.end()}, {condition.height, condition.width}, scale);
    for (float& value : large) value = std::clamp(value, 0.0f, 255.0f) + 0.5f;
    return large;
}

}  // namespace caflow::runtime
