// The interface of ONNX Runtime for the rest of the library: it turns ONNX files into functions on arrays. Arrays stay
// on the device between graphs.
//
// ONNX Runtime may silently run on the CPU if it cannot use another device. Here the provider that was chosen runs, or
// opening the backend fails.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "providers.hpp"
#include "settings.hpp"
#include "tensor.hpp"

namespace caflow::runtime {

// Where a graph leaves outputs that only graphs read: on the device, or in host memory.
enum class NoiseWindow { device, host };

// A loaded graph. It reads its inputs by name and ignores other arrays. It returns its outputs by name.
using Graph = std::function<Arrays(const Arrays& arrays, NoiseWindow place)>;

// What a graph is loaded from.
struct GraphSource {
    std::filesystem::path path;        // the ONNX file
    std::string engine;                // if not empty, the model that is loaded in its place, with a finished engine
    ShapeRange shapes;                 // sizes for which the provider builds an engine
    std::vector<std::string> on_host;  // names of the outputs that the host reads
};

// Any thread may use it.
class Backend {
  public:
    explicit Backend(std::string name) : name(std::move(name)) {}
    virtual ~Backend() = default;

    // Load a graph. Throws a BundleError, a BackendError or OutOfMemory. The graph throws a BackendError, OutOfMemory
    // or Stopped.
    virtual Graph load(const GraphSource& source) = 0;

    // Return a float32 array with four axes in the memory where graphs read their inputs. An array that many runs read
    // is then copied once.
    virtual Array to_device(const Array& array) = 0;

    // Stop keeping memory for later runs, which may then take longer. Call this after memory ran out. Return whether
    // the next run frees, at its end, the memory that was kept until now.
    virtual bool spare_memory() = 0;

    // End the graphs that run, and let graphs throw Stopped from now on; or let them run again. A signal handler may
    // call this too.
    virtual void set_stopped(bool stopped) = 0;

    const std::string name;  // such as "onnxruntime cuda"
};

// Open ONNX Runtime with an execution provider. The engine cache of the settings is an existing folder, or empty.
// Throws a BackendError.
std::unique_ptr<Backend> open_onnx_runtime(const ProviderChoice& choice, const Settings& settings);

// Return whether an error message of a library means that memory ran out.
bool is_out_of_memory(const std::string& text);

// Throw OutOfMemory if an error message means that memory ran out, and a BackendError otherwise.
[[noreturn]] void fail(const std::string& text);

// Return an input of a graph by its name. Throws a BackendError if it is missing. `graph` is the graph's name for
// messages.
const Array& given(const Arrays& arrays, const std::string& name, const std::string& graph);

}  // namespace caflow::runtime
