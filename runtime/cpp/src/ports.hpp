// Checks that the inputs and outputs of graphs have the types and shapes of the manifest, for every backend.
//
// Without these checks, a graph with another shape or type might run to the end and yield a wrong likelihood.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "bundle.hpp"
#include "tensor.hpp"

namespace caflow::runtime {

// Values of the named sizes in one run of a graph. A named size must have the same value everywhere.
using Sizes = std::map<std::string, std::int64_t>;

// Return the value of a size. Throws a BackendError if its name is unknown.
std::int64_t size_of(const Size& size, const Sizes& known);

// Check the inputs of a graph, or its outputs. Named sizes that are not in `sizes` yet are added to it. Both throw a
// BundleError that names the graph and the input or output. `path` is the path of the graph's file, for messages.
void check_inputs(const GraphFile& graph, const Arrays& given, Sizes& sizes, const std::filesystem::path& path);
void check_outputs(const GraphFile& graph, const Arrays& results, Sizes& sizes, const std::filesystem::path& path);

}  // namespace caflow::runtime
