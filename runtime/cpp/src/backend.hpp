// Backends turn graph files into functions on arrays. There are two: ONNX Runtime, on the CPU or on an NVIDIA GPU with
// its CUDA or TensorRT provider; and TensorRT with the engines of the bundle. Arrays stay on the device between graphs.
//
// ONNX Runtime may silently run on the CPU if it cannot use the GPU. Here the requested device runs, or opening the
// backend fails.
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

// Where a graph leaves outputs that only graphs read: on the device, or in host memory.
enum class Place { device, host };

// A loaded graph. It reads its inputs by name and ignores other arrays. It returns its outputs by name.
using Graph = std::function<Arrays(const Arrays& arrays, Place place)>;

// Function that runs a sequence of graphs. The sequence may depend only on the shapes of the inputs.
using Chain = std::function<Arrays(const Arrays& given)>;

// Any thread may use it.
class Backend {
  public:
    Backend(std::string name, std::vector<Profile> profiles) : name(std::move(name)), profiles(std::move(profiles)) {}
    virtual ~Backend() = default;

    // Load a graph. `on_host` has the names of the outputs that the host reads. Throws a BundleError, a BackendError or
    // OutOfMemory.
    virtual Graph load(const GraphFile& graph, const std::vector<std::string>& on_host) = 0;

    // Return whether `load` reads the ONNX file of the graph and the weights of the bundle.
    virtual bool reads_onnx() const { return true; }

    // Return why chains run slower than they could, as a text for people that is valid as long as the backend; nullptr
    // if there is nothing to report. The call does not wait for other threads.
    virtual const char* warning() const { return nullptr; }

    // Return noise in the memory where graphs read it.
    virtual Array draw_noise(const LevelNoise& z) { return draw_rows(z); }

    // Run a chain and return its outputs. A backend may record the chain under its name and its input shapes, and
    // replay the recording in later calls.
    virtual Arrays replay(const std::string&, const Chain& run, const Arrays& given) { return run(given); }

    // Stop keeping memory for later runs, which may then take longer. Call this after memory ran out. Return whether
    // the next run frees, at its end, the memory that was kept until now.
    virtual bool spare_memory() { return false; }

    const std::string name;               // such as "onnxruntime cpu"
    const std::vector<Profile> profiles;  // sizes that its graphs accept; empty: any size
};

// Execution provider of ONNX Runtime.
enum class Provider { cpu, cuda, tensorrt };

// Open ONNX Runtime for the bundle in `folder`. `threads` is the number of CPU threads of a graph, 0 for one per core.
// `engine_cache` is an existing folder for the engines that the TensorRT provider builds; empty: they are not stored.
// Throws a BackendError.
std::unique_ptr<Backend> open_onnx_runtime(const std::filesystem::path& folder, Provider provider, int threads,
                                           const std::string& engine_cache);

// Open TensorRT with the bundle's engine set for the GPU of this machine. Throws a BackendError.
std::unique_ptr<Backend> open_tensorrt(const std::filesystem::path& folder, const Manifest& manifest);

// Return whether an error message of a library means that memory ran out.
bool is_out_of_memory(const std::string& text);

// Throw OutOfMemory if an error message means that memory ran out, and a BackendError otherwise.
[[noreturn]] void fail(const std::string& text);

// Return an input of a graph by its name. Throws a BackendError if it is missing. `graph` is the graph's name for
// messages.
const Array& given(const Arrays& arrays, const std::string& name, const std::string& graph);

}  // namespace caflow::runtime
