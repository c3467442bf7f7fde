// The table of ONNX Runtime's execution providers: how each is registered, and which options it gets.
#pragma once

#include <map>
#include <string>

#include "bundle.hpp"
#include "engine_sets.hpp"

namespace caflow::runtime {

// Options of a provider, by the names that its documentation lists.
using ProviderOptions = std::map<std::string, std::string>;

// Shapes of a graph's inputs for which a provider builds an engine, such as "z:1x12x4x4,image:1". Both are empty if no
// engine is built.
struct ShapeRange {
    std::string smallest;
    std::string largest;
};

// What the options of a provider depend on.
struct SessionNeeds {
    int device = 0;
    std::string cache;  // existing folder for what the provider compiles; empty: it stores nothing
    ShapeRange shapes;
    int threads = 0;  // of a CPU; 0: as many as the provider chooses
};

// One row of the table.
struct Provider {
    std::string backend;       // name in caflow_open_options.backend
    std::string name;          // name that ONNX Runtime knows
    std::string requirements;  // what to install if it cannot be used
    std::string engines;       // flavor of the engine sets that it loads; empty: it loads ONNX files only
    bool is_plugin;            // registered by the path of its library, not built into ONNX Runtime
    bool has_tf32_option;  // or does not use TF32; otherwise the environment variable of NVIDIA's libraries is needed
    ProviderOptions (*options)(const SessionNeeds& needs);
};

// A provider and the number of its device.
struct ProviderChoice {
    Provider provider;
    int device = 0;

    std::string backend() const;  // such as "cuda" or "cuda:1"
};

// Return the provider that a backend's name chooses, such as "cuda:1" or "ort:openvino". Throws an InputError.
ProviderChoice choose_provider(const std::string& backend);

// Return the row of the provider that is built into ONNX Runtime for CUDA.
const Provider& cuda_provider();

// Return whether two names mean the same provider: upper and lower case are equal, and "ExecutionProvider" at the end
// makes no difference.
bool is_same_provider(const std::string& one, const std::string& other);

// Return the shapes of a graph's inputs from one item of the smallest target to the largest sizes of a profile.
ShapeRange shapes_of(const GraphFile& graph, const Model& model, const Profile& profile);

// Return the profile for engines that a provider builds itself: several items whose targets have as many pixels as the
// pixel budget allows.
Profile profile_for(const Model& model, std::int64_t pixel_budget);

}  // namespace caflow::runtime
