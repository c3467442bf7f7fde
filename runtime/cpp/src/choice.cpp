#include "choice.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "consistency.hpp"

namespace caflow::runtime {

namespace {

bool is_finite(const Row& row) {
    const auto finite = [](float value) { return std::isfinite(value); };
    return row.has_finite_likelihood() && std::all_of(row.pixels.begin(), row.pixels.end(), finite);
}

Image image_of(const Row& row, const Image& condition, const Model& model) {
    return integers(row.pixels, model.scale * condition.height, model.scale * condition.width);
}

}  // namespace

double value_of(const Row& row, const Image& condition, const Model& model, const Draw& draw) {
    if (!is_finite(row)) return worst;
    if (draw.rank == Rank::consistency) return consistency(model, image_of(row, condition, model), condition);
    return std::accumulate(row.per_level.begin(), row.per_level.end(), 0.0);
}

Result candidate(Row&& row, double value, const Image& condition, const Model& model, const Draw& draw) {
    Result result;
    result.image = image_of(row, condition, model);
    result.value = value;
    if (draw.rank == Rank::consistency) result.consistency = value;
    result.row = std::move(row);
    if (!draw.consistent && !draw.with_pixels) result.row.pixels = {};
    return result;
}

void finish(Result& result, const Image& condition, const Model& model, const Draw& draw) {
    if (!draw.consistent) return;
    result.image = project(model, result.row.pixels, condition);
    result.consistency = consistency(model, result.image, condition);
    if (!draw.with_pixels) result.row.pixels = {};
}

Image integers(const std::vector<float>& pixels, std::int64_t height, std::int64_t width) {
    Image image(height, width);
    std::transform(pixels.begin(), pixels.end(), image.rgb.begin(),
                   [](float value) { return std::uint8_t(std::clamp(value, 0.0f, 255.0f)); });
    return image;
}

}  // namespace caflow::runtime
