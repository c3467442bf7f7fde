#include "known_values.hpp"

#include <algorithm>
#include <array>

namespace caflow::runtime {

namespace {

constexpr std::uint8_t least_known = 128;  // smallest value of the mask where values of the target are known

// Call `use` with the index of each pixel of a condition with a mask and, for each of its values, whether it is known.
template <class Use>
void for_each_pixel(const Image& condition, const Model& model, Use use) {
    std::array<bool, target_channels> always{};
    for (const std::int64_t channel : model.known_channels) always[std::size_t(channel)] = true;
    const std::array<bool, target_channels> all{true, true, true};
    const auto channels = std::size_t(condition.channels);
    for (std::size_t k = 0; k < condition.values.size() / channels; ++k) {
        use(k, condition.values[channels * k + target_channels] >= least_known ? all : always);
    }
}

std::int64_t unknown(const std::array<bool, target_channels>& known) { return std::count(known.begin(), known.end(), false); }

}  // namespace

std::vector<std::uint8_t> drawn_pixels(const Image& condition, const Model& model) {
    if (condition.channels == target_channels) return {};
    std::vector<std::uint8_t> drawn(std::size_t(condition.height * condition.width));
    for_each_pixel(condition, model, [&](std::size_t k, const auto& known) { drawn[k] = unknown(known) > 0; });
    return drawn;
}

std::int64_t dims_of(const Image& condition, const Model& model) {
    if (condition.channels == target_channels) return std::int64_t(condition.values.size()) * model.scale * model.scale;
    std::int64_t dims = 0;
    for_each_pixel(condition, model, [&](std::size_t, const auto& known) { dims += unknown(known); });
    return dims;
}

std::vector<Image> with_known(std::vector<Image> targets, const std::vector<Image>& conditions, const Model& model) {
    if (model.condition_channels == target_channels) return targets;
    const auto channels = std::size_t(model.condition_channels);
    for (std::size_t n = 0; n < targets.size(); ++n) {
        for_each_pixel(conditions[n], model, [&](std::size_t k, const auto& known) {
            for (std::size_t c = 0; c < target_channels; ++c) {
                if (known[c]) targets[n].values[target_channels * k + c] = conditions[n].values[channels * k + c];
            }
        });
    }
    return targets;
}

void complete(std::vector<float>& pixels, const Image& condition, const Model& model) {
    if (condition.channels == target_channels) return;
    const auto channels = std::size_t(condition.channels);
    for_each_pixel(condition, model, [&](std::size_t k, const auto& known) {
        for (std::size_t c = 0; c < target_channels; ++c) {
            if (known[c]) pixels[target_channels * k + c] = float(condition.values[channels * k + c]) + 0.5f;
        }
    });
}

Image without_mask(const Image& condition) {
    Image image(condition.height, condition.width);
    for (std::int64_t k = 0; k < condition.height * condition.width; ++k) {
        std::copy_n(condition.values.begin() + k * condition.channels, target_channels, image.values.begin() + k * target_channels);
    }
    return image;
}

}  // namespace caflow::runtime
