#include "consistency.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "edges.hpp"
#include "errors.hpp"
#include "resizing.hpp"

namespace caflow::runtime {

namespace {

constexpr double exact = 100.0;        // PSNR in dB that is reported for equal images
constexpr int most_projections = 200;  // about ten are enough unless pixels are clipped at 0 or 255
constexpr double close_enough = 0.2;   // grey levels; smaller than the error of the rounding that follows

// Sum of squared differences of values in 0…255, and their number.
struct Difference {
    void add(double a, double b) {
        squares += (a - b) * (a - b);
        ++count;
    }

    template <class Values, class Others>
    void add_all(const Values& a, const Others& b) {
        for (std::size_t k = 0; k < a.size(); ++k) add(double(a[k]), double(b[k]));
    }

    double psnr() const {
        return squares > 0 ? std::min(exact, 10 * std::log10(255.0 * 255.0 * double(count) / squares)) : exact;
    }

    double squares = 0;
    std::size_t count = 0;
};

Sides sides_of(const Image& image) { return {image.height, image.width}; }

const std::string& down_filter(const Model& model) {
    return std::get<std::string>(model.task_settings.at("down_filter"));
}

double threshold(const Model& model, const char* name) { return std::get<double>(model.task_settings.at(name)); }

Difference known_difference(const Image& image, const Image& condition) {
    Difference difference;
    for (std::size_t k = 0; k < image.rgb.size(); k += 3) {
        if (!condition.rgb[k] && !condition.rgb[k + 1] && !condition.rgb[k + 2]) continue;
        for (std::size_t c = k; c < k + 3; ++c) difference.add(image.rgb[c], condition.rgb[c]);
    }
    return difference;
}

// Round a value to an integer in 0…255.
std::uint8_t rounded(double value) { return std::uint8_t(std::nearbyint(std::clamp(value, 0.0, 255.0))); }

}  // namespace

void check_has_consistency(const Model& model) {
    if (model.task == "super-resolution") return;
    if (model.task != "colorization" && model.task != "inpainting" && model.task != "sketch") {
        throw InputError("rank: the task '" + model.task +
                         "' does not define how to make a condition from a target: rank by likelihood");
    }
    if (model.scale == 1) return;
    throw InputError("rank: consistency in the task " + model.task + " requires a scale of 1; this model has scale " +
                     std::to_string(model.scale));
}

double consistency(const Model& model, const Image& image, const Image& condition) {
    Difference difference;
    if (model.task == "super-resolution") {
        std::vector<double> reduced = reduce(image.rgb, sides_of(image), model.scale, down_filter(model));
        for (double& value : reduced) value = rounded(value);
        difference.add_all(reduced, condition.rgb);
    } else if (model.task == "inpainting") {
        difference = known_difference(image, condition);
    } else if (model.task == "sketch") {
        const double low = threshold(model, "low_threshold"), high = threshold(model, "high_threshold");
        difference.add_all(find_edges(grey_of(image), sides_of(image), low, high), grey_of(condition));
    } else {
        difference.add_all(grey_of(image), grey_of(condition));
    }
    return difference.psnr();
}

Image project(const Model& model, const std::vector<float>& pixels, const Image& condition) {
    Image image(model.scale * condition.height, model.scale * condition.width);
    std::vector<float> values(pixels.size());
    std::transform(pixels.begin(), pixels.end(), values.begin(),
                   [](float pixel) { return std::clamp(pixel - 0.5f, 0.0f, 255.0f); });  // [w, w + 1) stands for w
    std::vector<float> missing(condition.rgb.size());
    for (int k = 0; k < most_projections; ++k) {
        const std::vector<double> reduced = reduce(values, sides_of(image), model.scale, down_filter(model));
        double largest = 0;
        for (std::size_t at = 0; at < missing.size(); ++at) {
            const double difference = condition.rgb[at] - reduced[at];
            largest = std::max(largest, std::abs(difference));
            missing[at] = float(difference);
        }
        if (largest < close_enough) break;
        const std::vector<float> step = enlarge(missing, sides_of(condition), model.scale);
        for (std::size_t at = 0; at < values.size(); ++at) {
            values[at] = std::clamp(values[at] + step[at], 0.0f, 255.0f);
        }
    }
    std::transform(values.begin(), values.end(), image.rgb.begin(), rounded);
    return image;
}

std::vector<std::uint8_t> grey_of(const Image& image) {
    std::vector<std::uint8_t> grey(image.rgb.size() / 3);
    for (std::size_t k = 0; k < grey.size(); ++k) {
        const std::uint8_t* rgb = &image.rgb[3 * k];
        grey[k] = std::uint8_t((9798 * rgb[0] + 19235 * rgb[1] + 3735 * rgb[2] + (1 << 14)) >> 15);
    }
    return grey;
}

}  // namespace caflow::runtime
