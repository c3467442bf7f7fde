#include "scenes.hpp"

#include <algorithm>
#include <cmath>

namespace caflow::runtime {

namespace {

constexpr std::size_t bins = 8;               // per colour channel
constexpr int bin_bits = 5;                   // log₂ of the number of values in a bin, 256 / 8
constexpr std::int64_t compared_pixels = 64;  // least number of pixels along the shorter side that are compared
constexpr double cut_distance = 0.5;          // Bhattacharyya distance of two histograms, 0…1, that is a cut

std::vector<float> histogram_of(const Image& frame) {
    const std::int64_t step = std::max<std::int64_t>(1, std::min(frame.height, frame.width) / compared_pixels);
    std::vector<float> counts(bins * bins * bins, 0.0f);
    for (std::int64_t y = 0; y < frame.height; y += step) {
        for (std::int64_t x = 0; x < frame.width; x += step) {
            const std::uint8_t* rgb = frame.row(y) + frame.channels * x;
            const auto bin = [&](int channel) { return std::size_t(rgb[channel] >> bin_bits); };
            ++counts[(bin(0) * bins + bin(1)) * bins + bin(2)];
        }
    }
    return counts;
}

double bhattacharyya(const std::vector<float>& a, const std::vector<float>& b) {
    double sum_a = 0, sum_b = 0, common = 0;
    for (std::size_t k = 0; k < a.size(); ++k) {
        sum_a += a[k];
        sum_b += b[k];
        common += std::sqrt(double(a[k]) * double(b[k]));
    }
    return std::sqrt(std::max(0.0, 1 - common / std::sqrt(sum_a * sum_b)));
}

}  // namespace

bool SceneCuts::is_cut(const Image& frame) {
    std::vector<float> histogram = histogram_of(frame);
    const bool cut = last_.empty() || bhattacharyya(last_, histogram) > cut_distance;
    last_ = std::move(histogram);
    return cut;
}

}  // namespace caflow::runtime
