#include "drawing.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

void draw_rows(Runner& runner, const std::vector<Image>& conditions, const Draw& draw, const Sink& sink) {
    draw.check(runner.model());
    std::vector<std::uint32_t> samples(draw.samples);
    std::iota(samples.begin(), samples.end(), draw.first_sample);
    runner.draw(conditions, samples, draw.noise(runner.model().levels), draw.keep, sink);
}

// The likelihoods of images that were changed after they were drawn, in place of those of the samples.
void score_again(Runner& runner, std::vector<Result>& results, const std::vector<Image>& conditions) {
    std::vector<Image> changed, of_changed;
    for (const Result& result : results) {
        changed.push_back(result.image);
        of_changed.push_back(conditions[result.row.image]);
    }
    std::vector<Row> scored = score_rows(runner, changed, of_changed);
    for (std::size_t k = 0; k < results.size(); ++k) {
        results[k].row.shares = std::move(scored[k].shares);
        results[k].row.per_level = std::move(scored[k].per_level);
    }
}

}  // namespace

std::vector<Result> draw_best(Runner& runner, const std::vector<Image>& conditions, const Draw& draw) {
    const Model& model = runner.model();
    std::vector<std::optional<Result>> best(conditions.size());
    draw_rows(runner, conditions, draw, [&](Row&& row) {
        const Image& condition = conditions[row.image];
        std::optional<Result>& winner = best[row.image];
        const double value = value_of(row, condition, model, draw);
        if (value > (winner ? winner->value : worst)) winner = candidate(std::move(row), value, condition, model, draw);
    });
    std::vector<Result> results;
    for (std::size_t k = 0; k < best.size(); ++k) {
        if (!best[k]) throw NotFinite("no sample of images[" + std::to_string(k) + "] is finite: " + try_lower);
        finish(*best[k], conditions[k], model, draw);
        results.push_back(std::move(*best[k]));
    }
    if (draw.consistent) score_again(runner, results, conditions);
    return results;
}

std::vector<Result> draw_all(Runner& runner, const std::vector<Image>& conditions, const Draw& draw) {
    if (!draw.keep.empty()) throw InputError("keep: samples are dropped where one is wanted: use caflow_best_of");
    const Model& model = runner.model();
    std::vector<Result> results;
    draw_rows(runner, conditions, draw, [&](Row&& row) {
        const Image& condition = conditions[row.image];
        const double value = value_of(row, condition, model, draw);
        if (value == worst) {
            throw NotFinite("sample " + std::to_string(row.sample) + " of images[" + std::to_string(row.image) +
                            "] is not finite: " + try_lower);
        }
        results.push_back(candidate(std::move(row), value, condition, model, draw));
        finish(results.back(), condition, model, draw);
    });
    std::sort(results.begin(), results.end(), [](const Result& a, const Result& b) {
        if (a.row.image != b.row.image) return a.row.image < b.row.image;
        return a.value != b.value ? a.value > b.value : a.row.sample < b.row.sample;
    });
    if (draw.consistent) score_again(runner, results, conditions);
    return results;
}

std::vector<Row> score_rows(Runner& runner, const std::vector<Image>& targets, const std::vector<Image>& conditions) {
    std::vector<Row> rows;
    runner.score(targets, conditions, [&](Row&& row) {
        if (!row.has_finite_likelihood()) {
            throw NotFinite("target[" + std::to_string(row.image) +
                            "]: its log-likelihood is not finite: the model has never seen the like");
        }
        rows.push_back(std::move(row));
    });
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.image < b.image; });
    return rows;
}

}  // namespace caflow::runtime
