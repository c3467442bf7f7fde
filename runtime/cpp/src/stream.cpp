#include "stream.hpp"

#include <cmath>
#include <numeric>
#include <string>

#include "errors.hpp"
#include "resizing.hpp"

namespace caflow::runtime {

Stream::Stream(Runner& runner, const Draw& draw, const FrameNoise& noise)
    : runner_(runner), draw_(draw), kind_(noise.kind) {
    draw.check(runner.model());
    if (!draw.keep.empty() || draw.consistent) {
        throw InputError("keep, consistent: frames of a stream are drawn whole and given as drawn, got one of them");
    }
    if (kind_ != FrameNoise::Kind::drifting) return;
    if (!(noise.persistence > 0 && noise.persistence < 1)) {
        throw InputError("persistence: wanted a number between 0 and 1, got " + std::to_string(noise.persistence));
    }
    drifting_.emplace(noise.persistence);
}

Frame Stream::draw(const Image& image) {
    const bool begins = is_cut(image);
    ++frames_;
    if (begins) start_scene();
    return {frames_ - 1, begins, draw_result(image)};
}

// Whether a frame is of another scene than the last one, or of another size.
bool Stream::is_cut(const Image& image) {
    const bool is_resized = image.height != height_ || image.width != width_;
    height_ = image.height;
    width_ = image.width;
    return cuts_.is_cut(image) || is_resized;
}

void Stream::start_scene() {
    ++scenes_;
    sample_.reset();
    if (drifting_) drifting_->restart(frames_ - 1);
}

// The scene's sample; where it has none that is finite, the best of N, which the scene keeps from here on.
Result Stream::draw_result(const Image& image) {
    std::optional<Result> best;
    if (sample_) best = best_of(image, *sample_, 1);
    if (!best) best = best_of(image, draw_.first_sample, draw_.samples);
    sample_ = best ? std::optional(best->row.sample) : std::nullopt;
    return best ? std::move(*best) : enlarged(image);
}

std::optional<Result> Stream::best_of(const Image& image, std::uint32_t first, std::uint32_t count) {
    const Model& model = runner_.model();
    std::vector<std::uint32_t> samples(count);
    std::iota(samples.begin(), samples.end(), first);
    Noise noise = draw_.noise(model.levels);
    noise.frame = kind_ == FrameNoise::Kind::fixed ? scenes_ - 1 : frames_ - 1;
    if (drifting_) noise.drifting = &*drifting_;
    std::optional<Result> best;
    runner_.draw({image}, samples, noise, {}, [&](Row&& row) {
        const double value = value_of(row, image, model, draw_);
        if (value > (best ? best->value : worst)) best = candidate(std::move(row), value, image, model, draw_);
    });
    return best;
}

// The input in place of a sample, without a likelihood.
Result Stream::enlarged(const Image& image) const {
    const Model& model = runner_.model();
    Result result;
    result.row.sample = no_sample;
    result.row.per_level.assign(std::size_t(model.levels), std::nan(""));
    result.row.pixels = enlarge_pixels(image, model.scale);
    result.image = integers(result.row.pixels, model.scale * image.height, model.scale * image.width);
    if (!draw_.with_pixels) result.row.pixels = {};
    return result;
}

}  // namespace caflow::runtime
