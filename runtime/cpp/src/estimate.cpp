#include "estimate.hpp"

#include <algorithm>

#include "level_chain.hpp"

namespace caflow::runtime {

namespace {

constexpr std::int64_t window = 128;     // largest side of a window in pixels, if the model's multiple is not larger
constexpr std::int64_t max_windows = 4;  // on each axis
constexpr std::int64_t block = 8;        // windows begin at multiples of this, as the blocks of JPEG files

// The windows of one axis.
struct Windows {
    std::vector<std::int64_t> starts;
    std::int64_t length;
};

Windows windows_of(std::int64_t side, std::int64_t multiple, std::int64_t most) {
    const std::int64_t length = std::min(side, (std::min(most, window) + multiple - 1) / multiple * multiple);
    const std::int64_t count = std::min(max_windows, (side + length - 1) / length);
    const double step = double(side - length) / double(std::max<std::int64_t>(1, count - 1));
    Windows windows{{}, length};
    for (std::int64_t k = 0; k < count; ++k) {
        windows.starts.push_back(std::int64_t(double(k) * step) / block * block);
    }
    return windows;
}

}  // namespace

std::vector<float> estimate_degradation(const Graphs& graphs, const Image& condition) {
    const Model& model = graphs.manifest().model;
    const std::int64_t multiple = model.size_multiple / model.scale;
    const std::optional<Profile>& profile = graphs.profile();  // engines may accept smaller windows only
    const Windows rows = windows_of(condition.height, multiple, profile ? profile->height / model.scale : window);
    const Windows columns = windows_of(condition.width, multiple, profile ? profile->width / model.scale : window);
    std::vector<double> sum;
    for (const std::int64_t top : rows.starts) {
        for (const std::int64_t left : columns.starts) {
            std::vector<std::uint8_t> values;
            for (std::int64_t y = top; y < top + rows.length; ++y) {
                const std::uint8_t* from = condition.row(y) + condition.channels * left;
                values.insert(values.end(), from, from + condition.channels * columns.length);
            }
            const Array given =
                make_array({1, rows.length, columns.length, condition.channels}, std::move(values));
            const Array found = needed(graphs.run("estimate", {{"condition", given}}), "degradation");
            sum.resize(found->count());
            const std::span<const float> of_window = floats_of(found);
            std::transform(sum.begin(), sum.end(), of_window.begin(), sum.begin(), std::plus<>());
        }
    }
    std::vector<float> mean;
    for (const double total : sum) mean.push_back(float(total / double(rows.starts.size() * columns.starts.size())));
    return mean;
}

}  // namespace caflow::runtime
