#include "noise.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>
#include <numeric>

namespace caflow::runtime {

namespace {

constexpr std::array<std::uint32_t, 2> multipliers{0xD2511F53, 0xCD9E8D57};
constexpr std::array<std::uint32_t, 2> weyl{0x9E3779B9, 0xBB67AE85};
constexpr int rounds = 10;
constexpr std::int64_t normals_per_call = 4;

// Turn two words into two normal numbers. Compute in float64 and round at the end, because float32 logarithms differ
// between libraries.
void box_muller(std::uint32_t a, std::uint32_t b, float& first, float& second) {
    const double radius = std::sqrt(-2 * std::log((a + 0.5) * 0x1p-32));
    const double angle = b * (2 * std::numbers::pi * 0x1p-32);
    first = float(radius * std::cos(angle));
    second = float(radius * std::sin(angle));
}

}  // namespace

Words philox(Words counter, std::array<std::uint32_t, 2> key) {
    for (int k = 0; k < rounds; ++k) {
        const std::uint64_t first = std::uint64_t{counter[0]} * multipliers[0];
        const std::uint64_t second = std::uint64_t{counter[2]} * multipliers[1];
        counter = {std::uint32_t(second >> 32) ^ counter[1] ^ key[0], std::uint32_t(second),
                   std::uint32_t(first >> 32) ^ counter[3] ^ key[1], std::uint32_t(first)};
        key = {key[0] + weyl[0], key[1] + weyl[1]};
    }
    return counter;
}

void draw_place(const NoisePlace& place, std::span<const std::int64_t> channels, std::span<const float> temperature,
                std::uint32_t sample, float* z) {
    const std::size_t plane = std::size_t{place.height} * place.width;
    for (std::size_t k = 0; k < channels.size(); ++k) {
        const std::uint32_t flow = (place.level + std::uint32_t(k)) << 16 | place.level << 24;
        for (std::int64_t channel = 0; channel < channels[k]; channel += normals_per_call) {
            const std::uint32_t group = std::uint32_t(channel / normals_per_call) + flow;
            const std::int64_t used = std::min(normals_per_call, channels[k] - channel);
            for (std::size_t at = 0; at < plane; ++at) {
                const auto y = std::uint32_t(at / place.width), x = std::uint32_t(at % place.width);
                const Words words = philox({place.left + x, place.top + y, group, sample}, {place.seed, place.frame});
                std::array<float, normals_per_call> normals;
                box_muller(words[0], words[1], normals[0], normals[1]);
                box_muller(words[2], words[3], normals[2], normals[3]);
                for (std::int64_t c = 0; c < used; ++c) {
                    z[std::size_t(c) * plane + at] = normals[std::size_t(c)] * temperature[k];
                }
            }
            z += std::size_t(used) * plane;
        }
    }
}

Shape LevelNoise::shape() const {
    return {std::int64_t(items.size()), std::accumulate(channels.begin(), channels.end(), std::int64_t{0}), height,
            width};
}

Array draw_noise(const LevelNoise& z) {
    const Shape shape = z.shape();
    const auto size = std::size_t(shape[1] * shape[2] * shape[3]);
    std::vector<float> drawn(z.items.size() * size);
    float* at = drawn.data();
    for (const LevelNoise::BatchItem& item : z.items) {
        const NoisePlace place{z.level, item.top, item.left, z.height, z.width, z.seed, z.frame};
        draw_place(place, z.channels, z.temperature, item.sample, at);
        at += size;
    }
    return make_array(shape, std::move(drawn));
}

void SceneNoise::begin(std::uint32_t scene, std::uint32_t sample, std::int64_t pixel_budget) {
    const std::tuple shared{scene, sample, pixel_budget};
    if (shared != shared_) kept_.clear();
    shared_ = shared;
}

Array SceneNoise::draw_noise(const LevelNoise& z, const DrawNoise& draw) {
    auto found = kept_.find(z);
    if (found == kept_.end()) found = kept_.emplace(z, draw(z)).first;
    return found->second;
}

DriftingNoise::DriftingNoise(double persistence)
    : kept_(float(persistence)), fresh_(float(std::sqrt(1 - persistence * persistence))) {}

void DriftingNoise::restart(std::uint32_t first) {
    first_ = first;
    last_.clear();
}

Array DriftingNoise::draw_noise(const LevelNoise& z) {
    std::vector<float> scaled;
    const std::size_t plane = std::size_t{z.height} * z.width;
    for (const LevelNoise::BatchItem& item : z.items) {
        const float* from = normals_of(z, item).data();
        for (std::size_t k = 0; k < z.channels.size(); ++k) {
            const std::size_t count = std::size_t(z.channels[k]) * plane;
            std::transform(from, from + count, std::back_inserter(scaled),
                           [&](float normal) { return normal * z.temperature[k]; });
            from += count;
        }
    }
    return make_array(z.shape(), std::move(scaled));
}

// Return the noise of one item at the temperature 1.
const std::vector<float>& DriftingNoise::normals_of(const LevelNoise& z, const LevelNoise::BatchItem& item) {
    const auto drawn_of = [&](std::uint32_t frame) {
        const Shape shape = z.shape();
        std::vector<float> normals(std::size_t(shape[1] * shape[2] * shape[3]));
        const NoisePlace place{z.level, item.top, item.left, z.height, z.width, z.seed, frame};
        draw_place(place, z.channels, std::vector(z.channels.size(), 1.0f), item.sample, normals.data());
        return normals;
    };
    const NoiseWindow place{z.level, item.top, item.left, z.height, z.width, item.sample};
    auto found = last_.find(place);
    if (found == last_.end()) found = last_.emplace(place, Drawn{first_, drawn_of(first_)}).first;
    Drawn& drawn = found->second;
    while (drawn.frame < z.frame) {  // several steps if the noise was not requested for some frames
        const std::vector<float> fresh = drawn_of(drawn.frame + 1);
        for (std::size_t k = 0; k < fresh.size(); ++k) {
            drawn.normals[k] = kept_ * drawn.normals[k] + fresh_ * fresh[k];
        }
        ++drawn.frame;
    }
    return drawn.normals;
}

}  // namespace caflow::runtime
