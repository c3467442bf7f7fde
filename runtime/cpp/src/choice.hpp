// Which of an image's samples is taken: rows as candidates, ranked, and rejected where they are untypical.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "draw.hpp"
#include "image.hpp"
#include "likelihoods.hpp"
#include "runner.hpp"
#include "typicality.hpp"

namespace caflow::runtime {

constexpr double worst = -std::numeric_limits<double>::infinity();
constexpr const char* try_lower = "the model's inverse explodes there; try a lower temperature";

// The number of the sample where there is none: the input, enlarged, is in its place.
constexpr std::uint32_t no_sample = 0xFFFFFFFF;

// What is given: what nothing was asked of, or cannot be judged; what was accepted; the best of rejected samples; the
// input, enlarged; or, of a scored image, that it is untypical.
enum class Outcome { unjudged, accepted, best, bicubic, rejected };

// What became of what was judged, and why, for people, where it was not accepted.
struct Verdict {
    Outcome outcome = Outcome::unjudged;
    std::string reason;
};

// `untypical`: what becomes of what is less typical than α.
Verdict verdict_of(const Typicality& found, double alpha, Outcome untypical);

// A sample or a scored image that is given back.
struct Result {
    Row row;  // with its pixels if they were asked for
    Image image;
    double value = 0;  // what it was ranked by, the more the better
    std::optional<double> consistency;
    std::optional<Typicality> sample_typicality;
    std::optional<Typicality> image_typicality;
    Verdict verdict;
    std::uint32_t rejected = 0;  // samples of its image
};

// How a draw of a model judges rows.
struct Judgement {
    const Model& model;
    const Draw& draw;
    const Likelihoods& likelihoods;
    const Reference* samples;  // what is typical of the samples, where the draw needs it

    // What a row of a condition is ranked by; the worst where it is not finite.
    double value_of(const Row& row, const Condition& condition) const;

    // A row as bytes. Its pixels are still there where they are needed or were asked for.
    Result candidate(Row&& row, double value, const Condition& condition) const;

    // A candidate as it is given back: with its typicality, or, where it is to be consistent, with its image changed to
    // match the condition.
    void finish(Result& result, const Condition& condition) const;

    // The input in place of a sample, without a likelihood.
    Result enlarged(std::size_t image, const Condition& condition) const;
};

// Gives a candidate the typicality of its image.
using JudgeImage = std::function<void(Result& candidate, const Condition& condition)>;

// Takes rows of one condition and keeps the best.
class Chooser {
  public:
    // All that is given must outlive it. `number`: of the condition, for messages.
    Chooser(const Judgement& judgement, const Image& condition, std::size_t number)
        : judgement_(judgement), condition_(condition, judgement.model.scale), number_(number) {}

    // One more sample.
    void take(Row&& row);

    // Whether one of the samples that wait is accepted: they are tried in the order of their rank, and the first that
    // is accepted is taken.
    bool judge_images(const JudgeImage& judge);

    std::uint32_t accepted() const { return accepted_; }

    // What is given; NotFinite or Untypical where nothing is.
    Result chosen();

  private:
    void reject(Result&& candidate);
    Verdict verdict_on(const Row& row) const;

    const Judgement& judgement_;
    Condition condition_;
    std::size_t number_;
    std::uint32_t accepted_ = 0, rejected_ = 0;
    std::optional<Result> best_, best_rejected_;
    std::vector<Result> waiting_;  // whose images are still to be judged
};

}  // namespace caflow::runtime
