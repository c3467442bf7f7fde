// The chain of graphs. Sampling runs from coarse to fine levels, scoring from fine to coarse levels.
//
// The class Graphs hides which backend runs the graphs.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "graphs.hpp"
#include "latent_statistics.hpp"
#include "tiles.hpp"

namespace caflow::runtime {

// Log-likelihood maps of each level, coarsest first; each is (R, h, w), in nats.
using Maps = std::vector<std::vector<Array>>;

// Indices of items, or nothing for all items.
using Kept = std::optional<std::vector<std::size_t>>;

// Function that is called after a level with the maps so far. It returns the items that continue.
using Prune = std::function<Kept(std::size_t level, const Maps& maps)>;

// Results of one pass over the graphs, for R items.
struct ScanResult {
    Array pixels;                   // (R, H, W, 3) float32, continuous pixel values
    Maps maps;                      // maps of all graphs in the log-likelihood
    std::vector<std::size_t> kept;  // indices of these items among the input items
    std::vector<Array> latents;     // of existing targets: z of each level, coarsest first, (R, channels, h, w)
};

// Return an output that every graph of its kind has. Throws a BackendError if it is missing.
Array needed(const Arrays& arrays, const char* name);

// Run the graph that depends on the conditions only, (B, h, w, 3) uint8 RGB. Return its outputs by name. `degradation`,
// (B, 13) float32, is for models that are told of it; by default it is estimated from these conditions alone, which may
// be parts of larger ones.
Arrays encode(const Graphs& graphs, const Array& condition, Array degradation = nullptr);

// Compute one target per item from its noise. `noise` is z of each level, (R, channels, h, w). `image`, (R) int64, is
// the index of each item's condition among the encoded ones. `prune` may be empty.
ScanResult sample(const Graphs& graphs, const Arrays& encoded, Array image, std::vector<Array> noise,
                  const Prune& prune);

// Compute the log-likelihood of targets, (R, H, W, 3) float32 continuous pixel values.
ScanResult score(const Graphs& graphs, const Arrays& encoded, const Array& image, const Array& pixels);

// Return one of the `items` items of a map, of latents, or of pixels, for items of this window's shape. Each throws a
// BundleError or a BackendError if the array has another shape.
Map map_of(const Array& map, std::size_t item, std::size_t items, const Tile& window);
Latents latents_of(const Array& z, std::size_t item, std::size_t items, const Tile& window);
std::span<const float> pixels_of(const Array& pixels, std::size_t item, std::size_t items, const Tile& window);

}  // namespace caflow::runtime
