#include "consistency.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

constexpr double cubic = -0.5;   // the parameter of Keys' kernel that Pillow and PyTorch reduce with
constexpr double exact = 100.0;  // dB: what PSNR is given as where there is no difference

// The sum of squared differences of values in 0…255, and how many there are.
struct Difference {
    void add(double a, double b) {
        squares += (a - b) * (a - b);
        ++count;
    }

    double psnr() const {
        return squares > 0 ? std::min(exact, 10 * std::log10(255.0 * 255.0 * double(count) / squares)) : exact;
    }

    double squares = 0;
    std::size_t count = 0;
};

// Of the pixels around a reduced one, symmetric, summing to 1.
std::vector<float> taps_of(std::int64_t scale, const std::string& down_filter) {
    const std::int64_t support = (down_filter == "bilinear" ? 1 : 2) * scale;
    std::vector<double> taps(static_cast<std::size_t>(2 * support));
    double sum = 0;
    for (std::size_t k = 0; k < taps.size(); ++k) {
        const double x = std::abs((double(k) + 0.5 - double(support)) / double(scale));
        const double near = (cubic + 2) * x * x * x - (cubic + 3) * x * x + 1;
        const double far = cubic * (x * x * x - 5 * x * x + 8 * x - 4);
        taps[k] = down_filter == "bilinear" ? 1 - x : x < 1 ? near : far;
        sum += taps[k];
    }
    std::vector<float> rounded;
    for (const double tap : taps) rounded.push_back(float(tap / sum));
    return rounded;
}

// The taps that lie inside an axis of `side` pixels, about a reduced pixel: from where on, and which.
struct Reach {
    std::int64_t start;
    std::vector<double> weights;  // what is missing at the border is shared out among the others
};

Reach reach_of(std::int64_t reduced, std::int64_t side, std::int64_t scale, const std::vector<float>& taps) {
    const std::int64_t first = reduced * scale + scale / 2 - std::int64_t(taps.size()) / 2;
    Reach reach{std::max<std::int64_t>(first, 0), {}};
    double sum = 0;
    for (std::int64_t at = reach.start; at < std::min(side, first + std::int64_t(taps.size())); ++at) {
        reach.weights.push_back(taps[std::size_t(at - first)]);
        sum += reach.weights.back();
    }
    for (double& weight : reach.weights) weight /= sum;
    return reach;
}

// A row of the reduced image before its columns are reduced, (width, 3).
std::vector<double> reduced_row(const Image& image, const Reach& rows) {
    std::vector<double> sums(std::size_t(image.width) * 3, 0.0);
    for (std::size_t k = 0; k < rows.weights.size(); ++k) {
        const std::uint8_t* from = image.row(rows.start + std::int64_t(k));
        for (std::size_t x = 0; x < sums.size(); ++x) sums[x] += rows.weights[k] * from[x];
    }
    return sums;
}

// Against the image through the antialiased filter, as Pillow and PyTorch reduce.
Difference reduced_difference(const Image& image, const Image& condition, std::int64_t scale,
                              const std::string& down_filter) {
    const std::vector<float> taps = taps_of(scale, down_filter);
    std::vector<Reach> columns;
    for (std::int64_t x = 0; x < condition.width; ++x) columns.push_back(reach_of(x, image.width, scale, taps));
    Difference difference;
    for (std::int64_t y = 0; y < condition.height; ++y) {
        const std::vector<double> row = reduced_row(image, reach_of(y, image.height, scale, taps));
        for (std::size_t x = 0; x < columns.size(); ++x) {
            for (std::size_t c = 0; c < 3; ++c) {
                double value = 0;
                for (std::size_t k = 0; k < columns[x].weights.size(); ++k) {
                    value += columns[x].weights[k] * row[3 * (std::size_t(columns[x].start) + k) + c];
                }
                difference.add(std::nearbyint(std::clamp(value, 0.0, 255.0)), condition.row(y)[3 * x + c]);
            }
        }
    }
    return difference;
}

// As OpenCV computes it: in integers of 2^-15.
int grey(const std::uint8_t* rgb) { return (9798 * rgb[0] + 19235 * rgb[1] + 3735 * rgb[2] + (1 << 14)) >> 15; }

Difference grey_difference(const Image& image, const Image& condition) {
    Difference difference;
    for (std::size_t k = 0; k < image.rgb.size(); k += 3) difference.add(grey(&image.rgb[k]), grey(&condition.rgb[k]));
    return difference;
}

Difference known_difference(const Image& image, const Image& condition) {
    Difference difference;
    for (std::size_t k = 0; k < image.rgb.size(); k += 3) {
        if (!condition.rgb[k] && !condition.rgb[k + 1] && !condition.rgb[k + 2]) continue;
        for (std::size_t c = k; c < k + 3; ++c) difference.add(image.rgb[c], condition.rgb[c]);
    }
    return difference;
}

}  // namespace

void check_has_consistency(const Model& model) {
    const bool keeps_size = model.task == "colorization" || model.task == "inpainting";
    if (keeps_size && model.scale != 1) {
        throw InputError("rank: a model of " + model.task +
                         " wants conditions of its targets' size, this one has scale " + std::to_string(model.scale));
    }
    if (keeps_size || model.task == "super-resolution") return;
    throw InputError("rank: how conditions of the task '" + model.task +
                     "' are made is not known here: rank by likelihood" +
                     (model.task == "sketch" ? ", or in Python" : ""));
}

double consistency(const Model& model, const Image& image, const Image& condition) {
    check_has_consistency(model);
    if (model.task == "colorization") return grey_difference(image, condition).psnr();
    if (model.task == "inpainting") return known_difference(image, condition).psnr();
    const auto& down_filter = std::get<std::string>(model.task_settings.at("down_filter"));
    return reduced_difference(image, condition, model.scale, down_filter).psnr();
}

}  // namespace caflow::runtime
