#include "sampling.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

// State for drawing the samples of one call.
struct Drawing {
    // Draw `count` samples of each condition, from index `first` of the draw's samples on.
    void draw_items(const std::vector<Image>& conditions, std::uint32_t first, std::uint32_t count, const Sink& sink) {
        const DrawOptions& draw = judgement.draw;
        std::vector<std::uint32_t> samples(count);
        std::iota(samples.begin(), samples.end(), draw.first_sample + first);
        runner.draw(conditions, samples, draw.noise(runner.model().levels), draw.keep, sink);
    }

    Runner& runner;
    const Judgement& judgement;
};

Judgement judgement_of(const Runner& runner, const Likelihoods& likelihoods, const DrawOptions& draw) {
    draw.check(runner.graphs().manifest());
    return {runner.graphs(), draw, likelihoods, likelihoods.check_calibrated(draw)};
}

std::vector<BatchItem> score_items(Runner& runner, const std::vector<Image>& targets,
                                   const std::vector<Image>& conditions, const Progress& progress = {}) {
    std::vector<BatchItem> items;
    const auto take = [&](BatchItem&& item) {
        if (!item.has_finite_likelihood()) {
            throw NotFinite("target[" + std::to_string(item.image) +
                            "]: its log-likelihood is not finite: the image is too different from the training images");
        }
        items.push_back(std::move(item));
    };
    runner.score(targets, conditions, {take, progress});
    std::sort(items.begin(), items.end(), [](const BatchItem& a, const BatchItem& b) { return a.image < b.image; });
    return items;
}

// Add the score of a result's image: its typicality, and, if the image was changed, its likelihood.
void add_score(Result& result, BatchItem&& scored, const Condition& condition, const Judgement& judgement) {
    result.image_typicality = judgement.likelihoods.of_image(scored, condition);
    if (!judgement.draw.consistent) return;
    result.item.maps = std::move(scored.maps);
    result.item.per_level = std::move(scored.per_level);
}

// Score all images that were changed after they were drawn, in one call.
void score_again(Runner& runner, std::vector<Result>& results, const std::vector<Image>& conditions,
                 const Judgement& judgement) {
    std::vector<std::size_t> changed;
    std::vector<Image> images, of_images;
    for (std::size_t k = 0; k < results.size(); ++k) {
        if (results[k].item.sample == no_sample) continue;
        changed.push_back(k);
        images.push_back(results[k].image);
        of_images.push_back(conditions[results[k].item.image]);
    }
    if (changed.empty()) return;
    for (BatchItem& item : score_items(runner, images, of_images, judgement.draw.progress)) {
        const std::size_t number = item.image;
        const Condition condition(of_images[number], runner.model());
        add_score(results[changed[number]], std::move(item), condition, judgement);
    }
}

// Draw further samples of one image to replace rejected ones, until enough samples are accepted or the limit is
// reached.
void redraw(Drawing& drawing, Chooser& chooser, const Image& condition) {
    const DrawOptions& draw = drawing.judgement.draw;
    for (std::uint32_t drawn = draw.n; chooser.accepted() < draw.n && drawn < draw.most_samples();) {
        const std::uint32_t count = std::min(draw.most_samples() - drawn, draw.n - chooser.accepted());
        drawing.draw_items({condition}, drawn, count, {[&](BatchItem&& item) { chooser.take(std::move(item)); }});
        drawn += count;
    }
}

// Choose the first sample of one image whose image is typical. Draw further samples until there is one, or the limit is
// reached.
void judge_images(Drawing& drawing, Chooser& chooser, const Image& image) {
    const DrawOptions& draw = drawing.judgement.draw;
    const JudgeImage judge = [&](Result& candidate, const Condition& condition) {
        BatchItem scored;
        drawing.runner.score({candidate.image}, {condition.image},
                             {[&](BatchItem&& item) { scored = std::move(item); }});
        if (!scored.has_finite_likelihood()) return false;
        add_score(candidate, std::move(scored), condition, drawing.judgement);
        return true;
    };
    for (std::uint32_t drawn = draw.n; !chooser.judge_images(judge) && drawn < draw.most_samples();) {
        const std::uint32_t count = std::min(draw.most_samples() - drawn, draw.n);
        drawing.draw_items({image}, drawn, count, {[&](BatchItem&& item) { chooser.take(std::move(item)); }});
        drawn += count;
    }
}

}  // namespace

std::vector<Result> draw_best(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& conditions,
                              const DrawOptions& draw) {
    const Judgement judgement = judgement_of(runner, likelihoods, draw);
    const bool judges_images = draw.reject.judges(Reject::Judge::image);
    Drawing drawing{runner, judgement};
    std::vector<Chooser> choosers;
    for (std::size_t k = 0; k < conditions.size(); ++k) choosers.emplace_back(judgement, conditions[k], k);
    const auto take = [&](BatchItem&& item) { choosers[item.image].take(std::move(item)); };
    drawing.draw_items(conditions, 0, draw.n, {take, draw.progress});
    std::vector<Result> results;
    for (std::size_t k = 0; k < conditions.size(); ++k) {
        if (draw.reject.judges(Reject::Judge::sample)) redraw(drawing, choosers[k], conditions[k]);
        if (judges_images) judge_images(drawing, choosers[k], conditions[k]);
        results.push_back(choosers[k].chosen());
    }
    if (draw.consistent && !judges_images) score_again(runner, results, conditions, judgement);
    return results;
}

std::vector<Result> draw_all(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& conditions,
                             const DrawOptions& draw) {
    if (!draw.keep.empty() || draw.reject.min_typicality > 0) {
        throw InputError(
            "caflow_sample returns all samples, so it does not support keep and min_typicality: use caflow_best_of");
    }
    const Judgement judgement = judgement_of(runner, likelihoods, draw);
    std::vector<Condition> given;
    for (const Image& condition : conditions) given.emplace_back(condition, runner.model());
    std::vector<Result> results;
    const auto take = [&](BatchItem&& item) {
        const Condition& condition = given[item.image];
        const double value = judgement.value_of(item, condition);
        if (value == worst) {
            throw NotFinite("sample " + std::to_string(item.sample) + " of images[" + std::to_string(item.image) +
                            "] is not finite: " + try_lower);
        }
        Result result = judgement.candidate(std::move(item), value, condition);
        judgement.finish(result, condition);
        results.push_back(std::move(result));
    };
    Drawing{runner, judgement}.draw_items(conditions, 0, draw.n, {take, draw.progress});
    std::sort(results.begin(), results.end(), [](const Result& a, const Result& b) {
        if (a.item.image != b.item.image) return a.item.image < b.item.image;
        return a.value != b.value ? a.value > b.value : a.item.sample < b.item.sample;
    });
    if (draw.consistent) score_again(runner, results, conditions, judgement);
    return results;
}

std::vector<Result> score_all(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& targets,
                              const std::vector<Image>& conditions, double alpha) {
    if (alpha != 0) check_alpha(alpha, likelihoods.calibration().truth);
    std::vector<Result> results;
    for (BatchItem& item : score_items(runner, targets, conditions)) {
        Result result;
        result.image.height = targets[item.image].height;
        result.image.width = targets[item.image].width;
        result.image_typicality = likelihoods.of_image(item, {conditions[item.image], runner.model()});
        if (alpha != 0) result.verdict = verdict_of(*result.image_typicality, alpha);
        result.item = std::move(item);
        results.push_back(std::move(result));
    }
    return results;
}

}  // namespace caflow::runtime
