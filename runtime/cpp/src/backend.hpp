// What turns a graph's file into a callable on arrays of a device: ONNX Runtime, on the CPU, or on an NVIDIA GPU by its
// CUDA or TensorRT provider. Between graphs arrays stay on the device.
//
// ONNX Runtime may run on the CPU without a word where it cannot use the GPU; here the device that was asked for is the
// one that runs, or it is an error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace caflow::runtime {

using Shape = std::vector<std::int64_t>;

// A tensor on the host or a device. Copies share it.
struct Tensor;
using Array = std::shared_ptr<const Tensor>;
using Arrays = std::map<std::string, Array>;

// Arrays of the host, which keep the values.
Array make_array(Shape shape, std::vector<float> values);
Array make_array(Shape shape, std::vector<std::uint8_t> values);
Array make_array(Shape shape, std::vector<std::int64_t> values);

Shape shape_of(const Array& array);

// The values of an array that is on the host, valid as long as the array.
std::span<const float> floats_of(const Array& array);

// The rows of a float array that is on the host.
Array take(const Array& array, const std::vector<std::size_t>& rows);

// Where a graph leaves what the next graph reads.
enum class Place { device, host };

// Takes the arrays that it names and ignores the others.
using Graph = std::function<Arrays(const Arrays& arrays, Place place)>;

class Backend {
  public:
    enum class Device { cpu, cuda, tensorrt };

    // `threads`: for the graphs' operators on the CPU, 0 is one per core. `engine_cache`: a folder, or none.
    Backend(Device device, int threads, std::string engine_cache);

    const std::string& name() const { return name_; }

    // A graph; those of its outputs that `on_host` names it leaves on the host.
    Graph load(const std::filesystem::path& path, const std::vector<std::string>& on_host) const;

  private:
    Device device_;
    int threads_;
    std::string engine_cache_;
    std::string name_;
};

}  // namespace caflow::runtime
