#include "consistency.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "errors.hpp"
#include "resizing.hpp"
#include "level_chain.hpp"

namespace caflow::runtime {

namespace {

constexpr double exact = 100.0;        // PSNR in dB that is reported for equal images
constexpr int most_projections = 200;  // about ten are enough unless pixels are clipped at 0 or 255
constexpr double close_enough = 0.2;   // grey levels; smaller than the error of the rounding that follows

using Bytes = std::vector<std::uint8_t>;
using Floats = std::vector<float>;

// Return the condition of a target, (h, w, channels), not rounded. Only random degradations read the condition.
Floats degrade(const Graphs& graphs, Floats target, const Image& condition) {
    const std::int64_t scale = graphs.manifest().model.scale, height = condition.height, width = condition.width;
    const Arrays arrays{
        {"target", make_array({1, scale * height, scale * width, 3}, std::move(target))},
        {"condition", make_array({1, height, width, condition.channels},
                                 Floats(condition.values.begin(), condition.values.end()))},
    };
    const Array degraded = needed(graphs.run(degrade_graph, arrays), "degraded");
    const std::span<const float> values = floats_of(degraded);
    if (values.size() != condition.values.size()) {
        throw BackendError("the graph degrade does not return the shape of a condition: export the model again");
    }
    return {values.begin(), values.end()};
}

Bytes rounded(const Floats& values) {
    Bytes bytes(values.size());
    std::transform(values.begin(), values.end(), bytes.begin(),
                   [](float value) { return std::uint8_t(std::nearbyint(std::clamp(value, 0.0f, 255.0f))); });
    return bytes;
}

// Return the condition that an image would have, rounded.
Bytes degraded(const Graphs& graphs, const Image& image, const Image& condition) {
    return rounded(degrade(graphs, Floats(image.values.begin(), image.values.end()), condition));
}

// Return the luma of BT.601 in three equal channels, as models of grey images see it.
Bytes luma(const Bytes& rgb) {
    Bytes grey(rgb.size());
    for (std::size_t k = 0; k < rgb.size(); k += 3) {
        const int thousandths = 299 * rgb[k] + 587 * rgb[k + 1] + 114 * rgb[k + 2];
        std::fill_n(&grey[k], 3, std::uint8_t(std::nearbyint(thousandths / 1000.0)));
    }
    return grey;
}

// Return what the model sees of a condition: colours only if it sees them, and no pixels that it fills.
Bytes seen(const Graphs& graphs, const Image& condition) {
    const Model& model = graphs.manifest().model;
    if (model.condition_color == "gray") return luma(condition.values);
    const bool sees_all = model.scale > 1 || graphs.manifest().reads_condition();
    return sees_all ? condition.values : degraded(graphs, condition, condition);
}

double psnr(const Bytes& a, const Bytes& b) {
    double squares = 0;
    for (std::size_t k = 0; k < a.size(); ++k) squares += double((a[k] - b[k]) * (a[k] - b[k]));
    return squares > 0 ? std::min(exact, 10 * std::log10(255.0 * 255.0 * double(a.size()) / squares)) : exact;
}

}  // namespace

double consistency(const Graphs& graphs, const Image& image, const Image& condition) {
    return psnr(degraded(graphs, image, condition), seen(graphs, condition));
}

Image project(const Graphs& graphs, const Floats& pixels, const Image& condition) {
    const std::int64_t scale = graphs.manifest().model.scale;
    const Bytes wanted = seen(graphs, condition);
    Floats values(pixels.size());
    std::transform(pixels.begin(), pixels.end(), values.begin(),
                   [](float pixel) { return std::clamp(pixel - 0.5f, 0.0f, 255.0f); });  // [w, w + 1) stands for w
    for (int k = 0; k < most_projections; ++k) {
        Floats missing = degrade(graphs, values, condition);
        float largest = 0;
        for (std::size_t at = 0; at < missing.size(); ++at) {
            missing[at] = float(wanted[at]) - missing[at];
            largest = std::max(largest, std::abs(missing[at]));
        }
        if (largest < close_enough) break;
        const Floats step = enlarge(missing, {condition.height, condition.width}, scale);
        for (std::size_t at = 0; at < values.size(); ++at) {
            values[at] = std::clamp(values[at] + step[at], 0.0f, 255.0f);
        }
    }
    Image image(scale * condition.height, scale * condition.width);
    image.values = rounded(values);
    return image;
}

}  // namespace caflow::runtime
