#include "resizing.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace caflow::runtime {

namespace {

constexpr double reducing_cubic = -0.5;    // parameter a of Keys' cubic kernel in Pillow and PyTorch
constexpr float enlarging_cubic = -0.75f;  // the same parameter in OpenCV
constexpr std::size_t enlarging_taps = 4;

// Return the weights of the pixels around a reduced pixel. They are symmetric and sum to 1.
std::vector<float> taps_of(std::int64_t scale, const std::string& down_filter) {
    const std::int64_t support = (down_filter == "bilinear" ? 1 : 2) * scale;
    std::vector<double> taps(static_cast<std::size_t>(2 * support));
    double sum = 0;
    for (std::size_t k = 0; k < taps.size(); ++k) {
        const double x = std::abs((double(k) + 0.5 - double(support)) / double(scale));
        const double near = (reducing_cubic + 2) * x * x * x - (reducing_cubic + 3) * x * x + 1;
        const double far = reducing_cubic * (x * x * x - 5 * x * x + 8 * x - 4);
        taps[k] = down_filter == "bilinear" ? 1 - x : x < 1 ? near : far;
        sum += taps[k];
    }
    std::vector<float> rounded;
    for (const double tap : taps) rounded.push_back(float(tap / sum));
    return rounded;
}

// The taps around a reduced pixel that are inside an axis: index of the first pixel, and the weights.
struct Reach {
    std::int64_t start;
    std::vector<double> weights;
    float sum;  // of the weights; below 1 at the border: divide by it to normalize
};

Reach reach_of(std::int64_t reduced, std::int64_t side, std::int64_t scale, const std::vector<float>& taps) {
    const std::int64_t first = reduced * scale + scale / 2 - std::int64_t(taps.size()) / 2;
    Reach reach{std::max<std::int64_t>(first, 0), {}, 0};
    double sum = 0;
    for (std::int64_t at = reach.start; at < std::min(side, first + std::int64_t(taps.size())); ++at) {
        reach.weights.push_back(taps[std::size_t(at - first)]);
        sum += reach.weights.back();
    }
    reach.sum = float(sum);
    return reach;
}

// Return a row of the reduced image before its columns are reduced, (width, 3).
template <class Value>
std::vector<double> reduced_row(const std::vector<Value>& large, std::int64_t width, const Reach& rows) {
    std::vector<double> sums(std::size_t(width) * 3, 0.0);
    for (std::size_t k = 0; k < rows.weights.size(); ++k) {
        const Value* from = large.data() + std::size_t(rows.start + std::int64_t(k)) * sums.size();
        for (std::size_t x = 0; x < sums.size(); ++x) sums[x] += rows.weights[k] * double(from[x]);
    }
    return sums;
}

// Indices and weights of the pixels of the small image that a pixel of the large image comes from, along one axis.
// Outside of the image, the pixels at its edge are repeated.
struct Source {
    std::array<std::size_t, enlarging_taps> at;
    std::array<float, enlarging_taps> weights;
};

std::vector<Source> sources_of(std::int64_t side, std::int64_t scale) {
    constexpr float a = enlarging_cubic;
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
        for (std::size_t tap = 0; tap < enlarging_taps; ++tap) {
            source.at[tap] = std::size_t(std::clamp<std::int64_t>(first - 1 + std::int64_t(tap), 0, side - 1));
        }
        all.push_back(source);
    }
    return all;
}

}  // namespace

template <class Value>
std::vector<double> reduce(const std::vector<Value>& large, Sides sides, std::int64_t scale,
                           const std::string& down_filter) {
    const std::vector<float> taps = taps_of(scale, down_filter);
    std::vector<Reach> columns;
    for (std::int64_t x = 0; x < sides.width / scale; ++x) columns.push_back(reach_of(x, sides.width, scale, taps));
    std::vector<double> reduced;
    reduced.reserve(std::size_t(sides.height / scale) * columns.size() * 3);
    for (std::int64_t y = 0; y < sides.height / scale; ++y) {
        const Reach rows = reach_of(y, sides.height, scale, taps);
        const std::vector<double> row = reduced_row(large, sides.width, rows);
        for (const Reach& column : columns) {
            for (std::size_t c = 0; c < 3; ++c) {
                double value = 0;
                for (std::size_t k = 0; k < column.weights.size(); ++k) {
                    value += column.weights[k] * row[3 * (std::size_t(column.start) + k) + c];
                }
                reduced.push_back(float(value) / (rows.sum * column.sum));  // float32 steps round as in Python
            }
        }
    }
    return reduced;
}

template std::vector<double> reduce(const std::vector<std::uint8_t>&, Sides, std::int64_t, const std::string&);
template std::vector<double> reduce(const std::vector<float>&, Sides, std::int64_t, const std::string&);

std::vector<float> enlarge(const std::vector<float>& small, Sides sides, std::int64_t scale) {
    const std::vector<Source> rows = sources_of(sides.height, scale), columns = sources_of(sides.width, scale);
    const std::size_t narrow = std::size_t(sides.width) * 3, wide = columns.size() * 3;
    std::vector<float> widened(std::size_t(sides.height) * wide);
    for (std::size_t y = 0; y < std::size_t(sides.height); ++y) {
        for (std::size_t x = 0; x < wide; ++x) {
            const Source& source = columns[x / 3];
            float value = 0;
            for (std::size_t tap = 0; tap < enlarging_taps; ++tap) {
                value += source.weights[tap] * small[y * narrow + 3 * source.at[tap] + x % 3];
            }
            widened[y * wide + x] = value;
        }
    }
    std::vector<float> large(rows.size() * wide, 0.0f);
    for (std::size_t y = 0; y < rows.size(); ++y) {
        for (std::size_t tap = 0; tap < enlarging_taps; ++tap) {
            const float* from = widened.data() + rows[y].at[tap] * wide;
            for (std::size_t x = 0; x < wide; ++x) large[y * wide + x] += rows[y].weights[tap] * from[x];
        }
    }
    return large;
}

std::vector<float> enlarge_pixels(const Image& condition, std::int64_t scale) {
    const std::vector<float> values(condition.rgb.begin(), condition.rgb.end());
    std::vector<float> large = enlarge(values, {condition.height, condition.width}, scale);
    for (float& value : large) value = std::clamp(value, 0.0f, 255.0f) + 0.5f;
    return large;
}

}  // namespace caflow::runtime
