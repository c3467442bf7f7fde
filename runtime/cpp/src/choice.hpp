// Chooses one of an image's samples: ranks the items, and rejects untypical ones.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "calibrated_likelihoods.hpp"
#include "image.hpp"
#include "runner.hpp"
#include "draw_options.hpp"
#include "typicality.hpp"

namespace caflow::runtime {

// Rank of an item that is not finite.
constexpr double worst = -std::numeric_limits<double>::infinity();
constexpr const char* try_lower = "the model's inverse diverges there: use a lower temperature";

// Sample number of a result that is not a sample, but the enlarged input.
constexpr std::uint32_t no_sample = 0xFFFFFFFF;

// Outcome of judging a result: not judged, because no verdict was requested or none is possible; accepted; the best of
// samples that were all rejected; the enlarged input; or, for a scored image, rejected.
enum class Outcome { unjudged, accepted, rejected, bicubic };

// Outcome of one result, and the reason, as a text for people, if it was not accepted.
struct Verdict {
    Outcome outcome = Outcome::unjudged;
    std::string reason;
};

// Return the verdict on a typicality: rejected if it is below α.
Verdict verdict_of(const Typicality& found, double alpha);

// Result of a call for one image: a sample, an enlarged input, or a scored image.
struct Result {
    BatchItem item;  // with its pixels if the caller requested them
    Image image;
    double value = 0;                   // value for ranking; higher is better
    std::optional<double> consistency;  // in dB
    std::optional<Typicality> sample_typicality;
    std::optional<Typicality> image_typicality;
    Verdict verdict;
    std::uint32_t rejected = 0;  // number of samples of its image that were rejected or not finite
};

// Ranks and judges the items of one draw.
struct Judgement {
    const Graphs& graphs;
    const DrawOptions& draw;
    const Likelihoods& likelihoods;
    const TypicalityModel* samples;  // distribution of the draw's samples; nullptr if the draw does not need it

    const Model& model() const { return graphs.manifest().model; }

    // Return the value by which an item is ranked; `worst` if the item is not finite.
    double value_of(const BatchItem& item, const Condition& condition) const;

    // Return an item as a result with an 8-bit image. The item's continuous pixels are kept if they are needed later,
    // or if the caller requested them.
    Result candidate(BatchItem&& item, double value, const Condition& condition) const;

    // Complete a candidate before it is returned: add its typicality, or, for a consistent draw, change its image to
    // match the condition.
    void finish(Result& result, const Condition& condition) const;

    // Return the enlarged input as a result, without a likelihood.
    Result enlarged(std::size_t image, const Condition& condition) const;
};

// Function that scores a candidate's image and adds its typicality. It returns whether the likelihood is finite.
using JudgeImage = std::function<bool(Result& candidate, const Condition& condition)>;

// Receives the items of one condition and keeps the best one.
class Chooser {
  public:
    // All arguments must outlive the object. `number` is the index of the condition, for results and messages.
    Chooser(const Judgement& judgement, const Image& condition, std::size_t number)
        : judgement_(judgement), condition_(condition, judgement.model()), number_(number) {}

    // Add a sample.
    void take(BatchItem&& item);

    // Judge the images of the waiting samples in the order of their rank, until one is accepted. Return whether one
    // was.
    bool judge_images(const JudgeImage& judge);

    // Number of samples that were accepted.
    std::uint32_t accepted() const { return accepted_; }

    // Return the chosen result. Throws NotFinite or Untypical if there is none. Call it once, at the end.
    Result chosen();

  private:
    void reject(Result&& candidate);
    Verdict verdict_on(const BatchItem& item) const;

    const Judgement& judgement_;
    Condition condition_;
    std::size_t number_;
    std::uint32_t accepted_ = 0, rejected_ = 0;
    std::optional<Result> best_, best_rejected_;
    std::vector<Result> waiting_;  // samples whose images are not judged yet
};

}  // namespace caflow::runtime
