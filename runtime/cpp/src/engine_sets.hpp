// TensorRT engines of a bundle: sets in its folder engines/, each for one flavor, version and GPU.
//
// An engine is a cache that can be built again: one that does not fit is named and never loaded. engines.json of a set
// carries the hash of the manifest, and with it that of every graph and weight.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "bundle.hpp"

namespace caflow::runtime {

// Sizes that an engine takes: from one row of the model's smallest target up to these.
struct Profile {
    std::int64_t rows;
    std::int64_t height;  // of the target, in pixels
    std::int64_t width;
};

struct EngineSet {
    std::filesystem::path folder;
    std::string manifest_sha256;
    std::string flavor;
    std::string version;             // of TensorRT
    std::string compute_capability;  // of the GPUs that can run it, such as "8.6"
    std::string gpu;                 // its name, where it was built for one GPU alone
    std::vector<Profile> profiles;
    std::map<std::string, File> engines;  // of each graph
};

// What engines must be built for to run here.
struct Machine {
    std::string flavor;   // "tensorrt" or "rtx"
    std::string version;  // of TensorRT
    std::string compute_capability;
    std::string gpu;
};

// What users call a flavor.
std::string name_of_flavor(const std::string& flavor);

// The set of a bundle that a machine runs; of several, if it can be, one that was built on its GPU. A BackendError,
// with what is there instead, where none does.
EngineSet find_engines(const std::filesystem::path& folder, const Manifest& manifest, const Machine& machine);

}  // namespace caflow::runtime
