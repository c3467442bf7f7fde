// RGB image in host memory, (height, width, 3) uint8, rows without gaps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace caflow::runtime {

struct Image {
    Image() = default;
    Image(std::int64_t height, std::int64_t width)
        : height(height), width(width), rgb(std::size_t(height) * std::size_t(width) * 3) {}

    std::uint8_t* row(std::int64_t y) { return rgb.data() + std::size_t(y) * std::size_t(width) * 3; }
    const std::uint8_t* row(std::int64_t y) const { return rgb.data() + std::size_t(y) * std::size_t(width) * 3; }
    std::string sides() const { return std::to_string(width) + "×" + std::to_string(height); }

    std::int64_t height = 0;
    std::int64_t width = 0;
    std::vector<std::uint8_t> rgb;
};

}  // namespace caflow::runtime
