// The chain of graphs: sampling runs coarse to fine, scoring fine to coarse.
//
// Where the graphs run is hidden behind Graphs.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "graphs.hpp"
#include "latents.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

using Shares = std::vector<std::vector<Array>>;  // of each level, coarsest first, maps (R, h, w) of nats on the host

// Numbers of rows, or nothing for all of them.
using Kept = std::optional<std::vector<std::size_t>>;

// After level j, given the shares so far: the rows to go on with.
using Prune = std::function<Kept(std::size_t level, const Shares& shares)>;

// What one pass over the graphs gives, for R rows of (image, sample) pairs.
struct Rows {
    Array pixels;                   // (R, H, W, 3) float32, continuous pixel values
    Shares shares;                  // what the graphs add to the log-likelihood
    std::vector<std::size_t> kept;  // which of the rows that went in these are
    std::vector<Array> latents;     // of given targets: z of each level, coarsest first, (R, channels, h, w)
};

// An output that every such graph has.
Array needed(const Arrays& arrays, const char* name);

// All that follows from conditions, (B, h, w, 3) uint8 RGB, alone.
Arrays encode(const Graphs& graphs, const Array& condition);

// One target per row from its noise: z of each level, (R, channels, h, w). `image`, (R) int64, is which of the encoded
// conditions each row is of.
Rows sample(const Graphs& graphs, const Arrays& encoded, Array image, std::vector<Array> noise, const Prune& prune);

// Conditions to samples with nothing in between, which a backend may record and repeat.
Rows sample_at_once(const Graphs& graphs, const Array& condition, const Array& image, const std::vector<Array>& noise);

// The log-likelihood of targets, (R, H, W, 3) float32 continuous pixel values.
Rows score(const Graphs& graphs, const Arrays& encoded, const Array& image, const Array& pixels);

// One of `rows` rows of a share, of latents, or of pixels, of a window; an error where a graph made something else.
Map map_of(const Array& share, std::size_t row, std::size_t rows, const Window& window);
Latents latents_of(const Array& z, std::size_t row, std::size_t rows, const Window& window);
std::span<const float> pixels_of(const Array& pixels, std::size_t row, std::size_t rows, const Window& window);

}  // namespace caflow::runtime
