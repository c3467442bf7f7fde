// Comparison of a backend with the CPU, on small artificial images.
#pragma once

#include "graphs.hpp"

namespace caflow::runtime {

// Compare the results of a bundle's graphs with those of the CPU: samples, their likelihoods, and the likelihoods of
// images. Throws a BackendError that names what differs.
void check_parity(const Graphs& tried, const Graphs& exact);

}  // namespace caflow::runtime
