#include "choice.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "consistency.hpp"
#include "errors.hpp"
#include "resizing.hpp"

namespace caflow::runtime {

namespace {

bool is_finite(const BatchItem& item) {
    const auto finite = [](float value) { return std::isfinite(value); };
    return item.has_finite_likelihood() && std::all_of(item.pixels.begin(), item.pixels.end(), finite);
}

// Return an item's continuous pixel values as uint8: rounded down, because values in [w, w + 1) stand for w, and
// clipped to 0…255.
Image image_of(const BatchItem& item, const Image& condition, const Model& model) {
    Image image(model.scale * condition.height, model.scale * condition.width);
    std::transform(item.pixels.begin(), item.pixels.end(), image.values.begin(),
                   [](float value) { return std::uint8_t(std::clamp(value, 0.0f, 255.0f)); });
    return image;
}

}  // namespace

Verdict verdict_of(const Typicality& found, double alpha) {
    if (!found.is_judged()) return {Outcome::unjudged, reason(found)};
    if (found.value >= alpha) return {Outcome::accepted, ""};
    return {Outcome::rejected, reason(found)};
}

double Judgement::value_of(const BatchItem& item, const Condition& condition) const {
    if (!is_finite(item)) return worst;
    if (draw.rank == Rank::consistency) {
        return consistency(graphs, image_of(item, condition.image, model()), condition.image);
    }
    if (draw.rank == Rank::typical) {
        const double far = likelihoods.distance_of_sample(item, condition, *samples);
        if (std::isfinite(far)) return -far;  // NaN if images of this kind are not known: use the likelihood then
    }
    return std::accumulate(item.per_level.begin(), item.per_level.end(), 0.0);
}

Result Judgement::candidate(BatchItem&& item, double value, const Condition& condition) const {
    Result result;
    result.image = image_of(item, condition.image, model());
    result.value = value;
    if (draw.rank == Rank::consistency) result.consistency = value;
    result.item = std::move(item);
    if (!draw.consistent && !draw.with_pixels) result.item.pixels = {};
    return result;
}

void Judgement::finish(Result& result, const Condition& condition) const {
    if (draw.consistent) {
        result.image = project(graphs, result.item.pixels, condition.image);
        result.consistency = consistency(graphs, result.image, condition.image);
        if (!draw.with_pixels) result.item.pixels = {};
    } else if (const TypicalityModel* typicality_model = likelihoods.typicality_model(draw.temperature)) {
        result.sample_typicality = likelihoods.of_sample(result.item, condition, *typicality_model);
    }
}

Result Judgement::enlarged(std::size_t image, const Condition& condition) const {
    Result result;
    result.item.image = image;
    result.item.sample = no_sample;
    result.item.per_level.assign(std::size_t(model().levels), std::nan(""));
    result.item.pixels = enlarge_pixels(condition.image, model().scale);
    result.image = image_of(result.item, condition.image, model());
    result.value = worst;
    result.verdict.outcome = Outcome::bicubic;
    if (draw.consistent || draw.rank == Rank::consistency) {
        result.consistency = consistency(graphs, result.image, condition.image);
    }
    if (!draw.with_pixels) result.item.pixels = {};
    return result;
}

void Chooser::take(BatchItem&& item) {
    const double value = judgement_.value_of(item, condition_);
    if (value == worst) {
        ++rejected_;
        return;
    }
    Verdict verdict = verdict_on(item);
    Result candidate = judgement_.candidate(std::move(item), value, condition_);
    candidate.verdict = std::move(verdict);
    if (judgement_.draw.reject.judges(Reject::Judge::image)) {
        waiting_.push_back(std::move(candidate));
    } else if (candidate.verdict.outcome == Outcome::rejected) {
        reject(std::move(candidate));
    } else {
        ++accepted_;
        if (value > (best_ ? best_->value : worst)) best_ = std::move(candidate);
    }
}

bool Chooser::judge_images(const JudgeImage& judge) {
    std::sort(waiting_.begin(), waiting_.end(), [](const Result& a, const Result& b) {
        return a.value != b.value ? a.value > b.value : a.item.sample < b.item.sample;
    });
    for (Result& candidate : waiting_) {
        judgement_.finish(candidate, condition_);
        if (!judge(candidate, condition_)) {  // then the image is no result, as if the sample itself were not finite
            ++rejected_;
            continue;
        }
        candidate.verdict = verdict_of(*candidate.image_typicality, judgement_.draw.reject.min_typicality);
        if (candidate.verdict.outcome == Outcome::rejected) {
            reject(std::move(candidate));
            continue;
        }
        ++accepted_;
        best_ = std::move(candidate);
        break;
    }
    waiting_.clear();
    return accepted_ > 0;
}

Result Chooser::chosen() {
    const Reject::Otherwise otherwise = judgement_.draw.reject.otherwise;
    const bool rejects = judgement_.draw.reject.min_typicality > 0;
    const std::string name = "images[" + std::to_string(number_) + "]";
    if (!best_ && !(rejects && otherwise == Reject::Otherwise::bicubic)) {
        if (!best_rejected_) throw NotFinite("no sample of " + name + " is finite: " + try_lower);
        if (otherwise == Reject::Otherwise::drop) {
            throw Untypical(name + ": all " + std::to_string(rejected_) +
                            " samples are untypical, with a "
                            "typicality below " +
                            shown(judgement_.draw.reject.min_typicality));
        }
        best_ = std::move(best_rejected_);
    }
    Result result = best_ ? std::move(*best_) : judgement_.enlarged(number_, condition_);
    if (!result.image_typicality && result.item.sample != no_sample) judgement_.finish(result, condition_);
    result.item.image = number_;
    result.rejected = rejected_;
    return result;
}

void Chooser::reject(Result&& candidate) {
    ++rejected_;
    if (candidate.value > (best_rejected_ ? best_rejected_->value : worst)) best_rejected_ = std::move(candidate);
}

// Return the verdict on a finite sample. A rejected one is the final outcome
// if this is the best of the rejected samples.
Verdict Chooser::verdict_on(const BatchItem& item) const {
    const Reject& rejection = judgement_.draw.reject;
    if (!rejection.judges(Reject::Judge::sample)) return {};
    const Typicality found = judgement_.likelihoods.of_sample(item, condition_, *judgement_.samples);
    return verdict_of(found, rejection.min_typicality);
}

}  // namespace caflow::runtime
