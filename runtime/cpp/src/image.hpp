// Image in host memory, (height, width, channels) uint8, rows without gaps: RGB, or a condition with a mask.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace caflow::runtime {

inline constexpr std::int64_t target_channels = 3;  // and of conditions without a mask

struct Image {
    Image() = default;
    Image(std::int64_t height, std::int64_t width, std::int64_t channels = target_channels)
        : height(height), width(width), channels(channels), values(std::size_t(height * width * channels)) {}

    std::uint8_t* row(std::int64_t y) { return values.data() + y * width * channels; }
    const std::uint8_t* row(std::int64_t y) const { return values.data() + y * width * channels; }
    std::string sides() const { return std::to_string(width) + "×" + std::to_string(height); }

    std::int64_t height = 0;
    std::int64_t width = 0;
    std::int64_t channels = target_channels;
    std::vector<std::uint8_t> values;
};

}  // namespace caflow::runtime
