// What turns graphs into callables on arrays: ONNX Runtime, on the CPU, or on an NVIDIA GPU by its CUDA or TensorRT
// provider; or TensorRT itself, with the engines of the bundle. Between graphs arrays stay on the device.
//
// ONNX Runtime may run on the CPU without a word where it cannot use the GPU; here the device that was asked for is the
// one that runs, or it is an error.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "engine_sets.hpp"
#include "noise.hpp"
#include "tensor.hpp"

namespace caflow::runtime {

// Where a graph leaves what the next graph reads.
enum class Place { device, host };

// Takes the arrays that it names and ignores the others.
using Graph = std::function<Arrays(const Arrays& arrays, Place place)>;

// Graphs one after the other; which ones depends on nothing but the shapes of what is given.
using Chain = std::function<Arrays(const Arrays& given)>;

// Any thread may use it.
class Backend {
  public:
    Backend(std::string name, std::vector<Profile> profiles) : name(std::move(name)), profiles(std::move(profiles)) {}
    virtual ~Backend() = default;

    // A graph; those of its outputs that `on_host` names are read on the host.
    virtual Graph load(const GraphFile& graph, const std::vector<std::string>& on_host) = 0;

    // Noise where graphs read it.
    virtual Array draw_noise(const LevelNoise& z) { return draw_rows(z); }

    // What a chain gives, which may be recorded by its name and shapes and repeated.
    virtual Arrays replay(const std::string&, const Chain& run, const Arrays& given) { return run(given); }

    const std::string name;               // such as "onnxruntime cpu"
    const std::vector<Profile> profiles;  // sizes that its graphs take; where there are none, any
};

enum class Provider { cpu, cuda, tensorrt };

// `folder`: of the bundle. `threads`: for the graphs' operators on the CPU, 0 is one per core. `engine_cache`: a folder
// for what the TensorRT provider builds, or none.
std::unique_ptr<Backend> open_onnx_runtime(const std::filesystem::path& folder, Provider provider, int threads,
                                           const std::string& engine_cache);

// The set of engines of the bundle that was built for the GPU here. A BackendError where it cannot run.
std::unique_ptr<Backend> open_tensorrt(const std::filesystem::path& folder, const Manifest& manifest);

// For backends: whether what they say is that memory ran out, what to throw then and else, and an input of a graph,
// which is named in messages.
bool is_out_of_memory(const std::string& text);
[[noreturn]] void fail(const std::string& text);
const Array& given(const Arrays& arrays, const std::string& name, const std::string& graph);

}  // namespace caflow::runtime
