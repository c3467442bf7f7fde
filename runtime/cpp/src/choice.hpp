// Which of an image's samples is taken: rows as candidates, ranked.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "draw.hpp"
#include "image.hpp"
#include "runner.hpp"

namespace caflow::runtime {

constexpr double worst = -std::numeric_limits<double>::infinity();
constexpr const char* try_lower = "the model's inverse explodes there; try a lower temperature";

// A row that is given back.
struct Result {
    Row row;  // with its pixels if they were asked for
    Image image;
    double value = 0;  // what it was ranked by, the more the better
    std::optional<double> consistency;
};

// What a row of a condition is ranked by; the worst where it is not finite.
double value_of(const Row& row, const Image& condition, const Model& model, const Draw& draw);

// A row as bytes. Its pixels are still there where they are needed or were asked for.
Result candidate(Row&& row, double value, const Image& condition, const Model& model, const Draw& draw);

// A candidate as it is given back: where it is to be consistent, its image is changed to match the condition.
void finish(Result& result, const Image& condition, const Model& model, const Draw& draw);

// Continuous pixel values to uint8: rounded down, as the cell [w, w + 1) stands for w, and clamped to 0…255.
Image integers(const std::vector<float>& pixels, std::int64_t height, std::int64_t width);

}  // namespace caflow::runtime
