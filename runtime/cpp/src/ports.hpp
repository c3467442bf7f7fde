// Whether the arrays that graphs take and give are those that the manifest describes, whatever backend runs them.
//
// A graph that gives another shape or type may still run to the end, and the likelihood is then a wrong number.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "bundle.hpp"
#include "tensor.hpp"

namespace caflow::runtime {

// What named sizes are in one run of a graph. A named size must be the same wherever it is named.
using Sizes = std::map<std::string, std::int64_t>;

// Checks what a graph is given, and what it gave; sizes that are not known yet are added. A BundleError that names the
// graph and its input or output. `path`: of the graph's file, for messages.
void check_inputs(const GraphFile& graph, const Arrays& given, Sizes& sizes, const std::filesystem::path& path);
void check_outputs(const GraphFile& graph, const Arrays& results, Sizes& sizes, const std::filesystem::path& path);

}  // namespace caflow::runtime
