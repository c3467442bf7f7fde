#include "stream.hpp"

#include <numeric>
#include <string>

#include "errors.hpp"

namespace caflow::runtime {

Stream::Stream(Runner& runner, const Likelihoods& likelihoods, const DrawOptions& draw, const FrameNoise& noise)
    : runner_(runner), likelihoods_(likelihoods), draw_(draw), kind_(noise.kind) {
    draw.check(runner.graphs().manifest());
    if (!draw.keep.empty() || draw.consistent || draw.reject.judges(Reject::Judge::image)) {
        throw InputError("keep, consistent, judge: a stream supports neither keep nor consistent nor judging by image");
    }
    samples_ = likelihoods.check_calibrated(draw);
    if (kind_ != FrameNoise::Kind::drifting) return;
    if (!(noise.persistence > 0 && noise.persistence < 1)) {
        throw InputError("persistence must be above 0 and below 1; got " + shown(noise.persistence));
    }
    drifting_.emplace(noise.persistence);
}

Frame Stream::draw(const Image& image) {
    const bool begins = is_cut(image);
    ++frames_;
    if (begins) start_scene();
    return {frames_ - 1, begins, draw_result({image, runner_.model()}, begins)};
}

// Whether a frame begins a new scene: it has another size than the last frame, or very different colours.
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

// Return the scene's sample for a frame. The scene keeps the best of N samples of its first frame. A frame for which
// that sample is not finite gets the best of N samples of its own, so that results do not depend on earlier frames.
Result Stream::draw_result(const Condition& frame, bool starts_scene) {
    std::optional<Result> best;
    if (sample_) best = best_of(frame, *sample_, 1);
    if (!best) best = best_of(frame, draw_.first_sample, draw_.n);
    if (best && starts_scene) sample_ = best->item.sample;
    if (!best) {
        Result enlarged = judgement().enlarged(0, frame);
        enlarged.rejected = draw_.n;
        return enlarged;
    }
    judge(*best, frame);
    return std::move(*best);
}

std::optional<Result> Stream::best_of(const Condition& frame, std::uint32_t first, std::uint32_t count) {
    std::vector<std::uint32_t> samples(count);
    std::iota(samples.begin(), samples.end(), first);
    Noise noise = draw_.noise(runner_.model().levels);
    noise.frame = kind_ == FrameNoise::Kind::fixed ? scenes_ - 1 : frames_ - 1;
    if (drifting_) {
        noise.source = [this](const LevelNoise& z, const DrawNoise&) { return drifting_->draw_noise(z); };
    } else if (kind_ == FrameNoise::Kind::fixed && count == 1) {
        scene_noise_.begin(scenes_, first, runner_.pixel_budget());
        noise.source = [this](const LevelNoise& z, const DrawNoise& draw) { return scene_noise_.draw_noise(z, draw); };
    }
    const Judgement judgement = this->judgement();
    std::optional<Result> best;
    std::uint32_t not_finite = 0;
    const auto take = [&](BatchItem&& item) {
        const double value = judgement.value_of(item, frame);
        if (value == worst) ++not_finite;
        if (value > (best ? best->value : worst)) best = judgement.candidate(std::move(item), value, frame);
    };
    runner_.draw({frame.image}, samples, noise, {}, {take, draw_.progress});
    if (best) best->rejected = not_finite;
    return best;
}

// Add the frame's typicality and verdict. If the frame is rejected, return it marked as such, replace it by the
// enlarged input, or throw Untypical, depending on `otherwise`.
void Stream::judge(Result& result, const Condition& frame) const {
    judgement().finish(result, frame);
    const Reject& rejection = draw_.reject;
    if (rejection.min_typicality == 0) return;
    result.verdict = verdict_of(*result.sample_typicality, rejection.min_typicality);
    if (result.verdict.outcome != Outcome::rejected) return;
    ++result.rejected;
    if (rejection.otherwise == Reject::Otherwise::drop) {
        throw Untypical("frame " + std::to_string(frames_ - 1) + " is untypical: " + result.verdict.reason);
    }
    if (rejection.otherwise == Reject::Otherwise::keep) return;
    Result enlarged = judgement().enlarged(0, frame);
    result.verdict.outcome = Outcome::bicubic;
    result.image = std::move(enlarged.image);
    result.item.pixels = std::move(enlarged.item.pixels);
}

}  // namespace caflow::runtime
