// Engine sets of a bundle: folders in its folder engines/, each with finished engines of all graphs, for one flavor and
// version of TensorRT and one kind of GPU.
//
// An engine is a cache that can be built again. An engine set that does not fit is never loaded; the error message says
// why. The file engines.json of a set contains the hash of the manifest, and the manifest contains the hashes of all
// graphs and weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "bundle.hpp"

namespace caflow::runtime {

// Largest sizes that an engine accepts. The smallest are one item of the model's smallest target.
struct Profile {
    std::int64_t batch_size;
    std::int64_t height;  // of the target, in pixels
    std::int64_t width;   // of the target, in pixels
};

// One engine set, as its engines.json describes it.
struct EngineSet {
    std::filesystem::path folder;
    std::string manifest_sha256;     // of the manifest that the set was built from
    std::string flavor;              // "tensorrt" or "rtx"
    std::string version;             // of TensorRT
    std::string compute_capability;  // of the GPUs that can run the set, such as "8.6"
    std::string gpu;                 // name of the only GPU that can run the set; empty: any of the capability
    Profile profile;
    std::map<std::string, File> engines;  // file of each graph's engine, by graph name
};

// The machine that runs engines. Engines must be built for these values.
struct Machine {
    std::string flavor;   // "tensorrt" or "rtx"
    std::string version;  // of TensorRT
    std::string compute_capability;
    std::string gpu;
};

// Return the engine set of a bundle that fits a machine, or nothing if the bundle has no set of the machine's flavor.
// If several fit, prefer a set for exactly the machine's GPU. Throws a BackendError that lists the sets, with the
// reasons why they do not fit, if there are sets but none fits.
std::optional<EngineSet> find_engines(const std::filesystem::path& folder, const Manifest& manifest,
                                      const Machine& machine);

// Return the contents of the engine of a graph: an ONNX file with one node, which contains the engine. Throws a
// BackendError if the set has none, if the file is not the one that engines.json describes, or if it is anything else.
std::string read_engine(const EngineSet& set, const std::string& graph);

}  // namespace caflow::runtime
