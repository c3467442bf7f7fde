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
    void draw_rows(const std::vector<Image>& conditions, std::uint32_t first, std::uint32_t count, const Sink& sink) {
        const SamplingConfig& draw = judgement.draw;
        std::vector<std::uint32_t> samples(count);
        std::iota(samples.begin(), samples.end(), draw.first_sample + first);
        runner.draw(conditions, samples, draw.noise(runner.model().levels), draw.keep, sink);
    }

    Runner& runner;
    const Judgement& judgement;
};

Judgement judgement_of(const Runner& runner, const Likelihoods& likelihoods, const SamplingConfig& draw) {
    draw.check(runner.graphs().manifest());
    return {runner.graphs(), draw, likelihoods, likelihoods.check_calibrated(draw)};
}

std::vector<BatchItem> score_rows(Runner& runner, const std::vector<Image>& targets,
                                  const std::vector<Image>& conditions, const Progress& progress = {}) {
    std::vector<BatchItem> rows;
    const auto take = [&](BatchItem&& row) {
        if (!row.has_finite_likelihood()) {
            throw NotFinite("target[" + std::to_string(row.image) +
                            "]: its log-likelihood is not finite: the image is too different from the training images");
        }
        rows.push_back(std::move(row));
    };
    runner.score(targets, conditions, {take, progress});
    std::sort(rows.begin(), rows.end(), [](const BatchItem& a, const BatchItem& b) { return a.image < b.image; });
    return rows;
}

// Add the score of a result's image: its typicality, and, if the image was changed, its likelihood.
void add_score(Result& result, BatchItem&& scored, const Condition& condition, const Judgement& judgement) {
    result.image_typicality = judgement.likelihoods.of_image(scored, condition);
    if (!judgement.draw.consistent) return;
    result.row.maps = std::move(scored.maps);
    result.row.per_level = std::move(scored.per_level);
}

// Score all images that were changed after they were drawn, in one call.
void score_again(Runner& runner, std::vector<Result>& results, const std::vector<Image>& conditions,
                 const Judgement& judgement) {
    std::vector<std::size_t> changed;
    std::vector<Image> images, of_images;
    for (std::size_t k = 0; k < results.size(); ++k) {
        if (results[k].row.sample == no_sample) continue;
        changed.push_back(k);
        images.push_back(results[k].image);
        of_images.push_back(conditions[results[k].row.image]);
    }
    if (changed.empty()) return;
    for (BatchItem& row : score_rows(runner, images, of_images, judgement.draw.progress)) {
        const std::size_t number = row.image;
        const Condition condition(of_images[number], runner.model());
        add_score(results[changed[number]], std::move(row), condition, judgement);
    }
}

// Draw further samples of one image to replace rejected ones, until enough samples are accepted or the limit is
// reached.
void redraw(Drawing& drawing, Chooser& chooser, const Image& condition) {
    const SamplingConfig& draw = drawing.judgement.draw;
    for (std::uint32_t drawn = draw.samples; chooser.accepted() < draw.samples && drawn < draw.most_samples();) {
        const std::uint32_t count = std::min(draw.most_samples() - drawn, draw.samples - chooser.accepted());
        drawing.draw_rows({condition}, drawn, count, {[&](BatchItem&& row) { chooser.take(std::move(row)); }});
        drawn += count;
    }
}

// Choose the first sample of one image whose image is typical. Draw further samples until there is one, or the limit is
// reached.
void judge_images(Drawing& drawing, Chooser& chooser, const Image& image) {
    const SamplingConfig& draw = drawing.judgement.draw;
    const JudgeImage judge = [&](Result& candidate, const Condition& condition) {
        BatchItem scored;
        drawing.runner.score({candidate.image}, {condition.image}, {[&](BatchItem&& row) { scored = std::move(row); }});
        if (!scored.has_finite_likelihood()) return false;
        add_score(candidate, std::move(scored), condition, drawing.judgement);
        return true;
    };
    for (std::uint32_t drawn = draw.samples; !chooser.judge_images(judge) && drawn < draw.most_samples();) {
        const std::uint32_t count = std::min(draw.most_samples() - drawn, draw.samples);
        drawing.draw_rows({image}, drawn, count, {[&](BatchItem&& row) { chooser.take(std::move(row)); }});
        drawn += count;
    }
}

}  // namespace

std::vector<Result> draw_best(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& conditions,
                              const SamplingConfig& draw) {
    const Judgement judgement = judgement_of(runner, likelihoods, draw);
    const bool judges_images = draw.reject.judges(Reject::Judge::image);
    Drawing drawing{runner, judgement};
    std::vector<Chooser> choosers;
    for (std::size_t k = 0; k < conditions.size(); ++k) choosers.emplace_back(judgement, conditions[k], k);
    const auto take = [&](BatchItem&& row) { choosers[row.image].take(std::move(row)); };
    drawing.draw_rows(conditions, 0, draw.samples, {take, draw.progress});
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
                             const SamplingConfig& draw) {
    if (!draw.keep.empty() || draw.reject.alpha > 0) {
        throw InputError(
            "caflow_sample returns all samples, so it does not support keep and min_typicality: use caflow_best_of");
    }
    const Judgement judgement = judgement_of(runner, likelihoods, draw);
    std::vector<Condition> given;
    for (const Image& condition : conditions) given.emplace_back(condition, runner.model());
    std::vector<Result> results;
    const auto take = [&](BatchItem&& row) {
        const Condition& condition = given[row.image];
        const double value = judgement.value_of(row, condition);
        if (value == worst) {
            throw NotFinite("sample " + std::to_string(row.sample) + " of images[" + std::to_string(row.image) +
                            "] is not finite: " + try_lower);
        }
        Result result = judgement.candidate(std::move(row), value, condition);
        judgement.finish(result, condition);
        results.push_back(std::move(result));
    };
    Drawing{runner, judgement}.draw_rows(conditions, 0, draw.samples, {take, draw.progress});
    std::sort(results.begin(), results.end(), [](const Result& a, const Result& b) {
        if (a.row.image != b.row.image) return a.row.image < b.row.image;
        return a.value != b.value ? a.value > b.value : a.row.sample < b.row.sample;
    });
    if (draw.consistent) score_again(runner, results, conditions, judgement);
    return results;
}

std::vector<Result> score_all(Runner& runner, const Likelihoods& likelihoods, const std::vector<Image>& targets,
                              const std::vector<Image>& conditions, double alpha) {
    if (alpha != 0) check_alpha(alpha, likelihoods.calibration().truth);
    std::vector<Result> results;
    for (BatchItem& row : score_rows(runner, targets, conditions)) {
        Result result;
        result.image.height = targets[row.image].height;
        result.image.width = targets[row.image].width;
        result.image_typicality = likelihoods.of_image(row, {conditions[row.image], runner.model()});
        if (alpha != 0) result.verdict = verdict_of(*result.image_typicality, alpha, Outcome::rejected);
        result.row = std::move(row);
        results.push_back(std::move(result));
    }
    return results;
}

}  // namespace caflow::runtime
