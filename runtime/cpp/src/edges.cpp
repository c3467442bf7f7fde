#include "edges.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace caflow::runtime {

namespace {

constexpr int tangent_bits = 15;
constexpr int tangent = 13573;  // of 22.5°, times 2^15

struct Gradient {
    int dx = 0;
    int dy = 0;

    int size() const { return std::abs(dx) + std::abs(dy); }
};

// Array with one value for each pixel and a border of one pixel around them.
template <class Value>
class Framed {
  public:
    explicit Framed(Sides sides)
        : width_(sides.width + 2), values_(std::size_t((sides.height + 2) * width_), Value{}) {}

    Value& at(std::int64_t y, std::int64_t x) { return values_[std::size_t((y + 1) * width_ + x + 1)]; }
    const Value& at(std::int64_t y, std::int64_t x) const { return values_[std::size_t((y + 1) * width_ + x + 1)]; }

  private:
    std::int64_t width_;
    std::vector<Value> values_;
};

// Return the Sobel gradients. Outside of the image, the pixels at its edge are repeated. Gradients in the border are 0.
Framed<Gradient> gradients_of(const std::vector<std::uint8_t>& grey, Sides sides) {
    const auto value = [&](std::int64_t y, std::int64_t x) {
        y = std::clamp<std::int64_t>(y, 0, sides.height - 1);
        x = std::clamp<std::int64_t>(x, 0, sides.width - 1);
        return int(grey[std::size_t(y * sides.width + x)]);
    };
    const auto across = [&](std::int64_t y, std::int64_t x) { return value(y, x + 1) - value(y, x - 1); };
    const auto down = [&](std::int64_t y, std::int64_t x) { return value(y + 1, x) - value(y - 1, x); };
    Framed<Gradient> gradients(sides);
    for (std::int64_t y = 0; y < sides.height; ++y) {
        for (std::int64_t x = 0; x < sides.width; ++x) {
            gradients.at(y, x) = {across(y - 1, x) + 2 * across(y, x) + across(y + 1, x),
                                  down(y, x - 1) + 2 * down(y, x) + down(y, x + 1)};
        }
    }
    return gradients;
}

// Whether a gradient is larger than its two neighbours along its direction, which is rounded to one of four.
bool is_ridge(const Framed<Gradient>& gradients, std::int64_t y, std::int64_t x) {
    const Gradient& here = gradients.at(y, x);
    const auto size = [&](std::int64_t down, std::int64_t right) { return gradients.at(y + down, x + right).size(); };
    const std::int64_t dx = std::abs(here.dx), dy = std::int64_t(std::abs(here.dy)) << tangent_bits;
    const std::int64_t flat = dx * tangent, steep = flat + (dx << (tangent_bits + 1));
    if (dy < flat) return here.size() > size(0, -1) && here.size() >= size(0, 1);
    if (dy > steep) return here.size() > size(-1, 0) && here.size() >= size(1, 0);
    const std::int64_t side = (here.dx < 0) != (here.dy < 0) ? -1 : 1;
    return here.size() > size(-1, -side) && here.size() > size(1, side);
}

}  // namespace

std::vector<std::uint8_t> find_edges(const std::vector<std::uint8_t>& grey, Sides sides, double low, double high) {
    if (low > high) std::swap(low, high);
    low = std::floor(low);
    high = std::floor(high);
    const Framed<Gradient> gradients = gradients_of(grey, sides);
    Framed<char> may_be(sides);
    std::vector<std::uint8_t> edges(grey.size(), 0);
    std::vector<std::pair<std::int64_t, std::int64_t>> to_follow;
    const auto found = [&](std::int64_t y, std::int64_t x) {
        edges[std::size_t(y * sides.width + x)] = 255;
        may_be.at(y, x) = false;
        to_follow.emplace_back(y, x);
    };
    for (std::int64_t y = 0; y < sides.height; ++y) {
        for (std::int64_t x = 0; x < sides.width; ++x) {
            may_be.at(y, x) = gradients.at(y, x).size() > low && is_ridge(gradients, y, x);
            if (may_be.at(y, x) && gradients.at(y, x).size() > high) found(y, x);
        }
    }
    while (!to_follow.empty()) {
        const auto [y, x] = to_follow.back();
        to_follow.pop_back();
        for (std::int64_t near_y = y - 1; near_y <= y + 1; ++near_y) {
            for (std::int64_t near_x = x - 1; near_x <= x + 1; ++near_x) {
                if (may_be.at(near_y, near_x)) found(near_y, near_x);
            }
        }
    }
    return edges;
}

}  // namespace caflow::runtime
