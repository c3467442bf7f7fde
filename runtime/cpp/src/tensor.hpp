// Inputs and outputs of graphs: arrays in host memory or in device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace caflow::runtime {

using Shape = std::vector<std::int64_t>;

// Type of the values of an array. `other` is any type that a graph of a bundle does not have.
enum class Type { float32, float16, bfloat16, uint8, int32, int64, other };

// Read-only array of values in row-major order.
class Tensor {
  public:
    Tensor(Shape shape, Type type) : shape(std::move(shape)), type(type) {}
    virtual ~Tensor() = default;

    // Return the values in host memory, without gaps; valid as long as the tensor. For an array on a device, wait until
    // the values are computed, and copy them.
    virtual const void* values() const = 0;

    std::size_t count() const;  // number of values
    std::size_t bytes() const;  // number of bytes of all values

    const Shape shape;
    const Type type;
};

using Array = std::shared_ptr<const Tensor>;
using Arrays = std::map<std::string, Array>;

// Return an array in host memory that owns `values`.
Array make_array(Shape shape, std::vector<float> values);
Array make_array(Shape shape, std::vector<std::uint8_t> values);
Array make_array(Shape shape, std::vector<std::int64_t> values);

// Return the values of a float32 array in host memory, valid as long as the array. Throws a BackendError for another
// type.
std::span<const float> floats_of(const Array& array);

// Return a copy, in host memory, of some items of an array: indices along its first axis. Throws a BackendError if an
// item does not exist.
Array take(const Array& array, const std::vector<std::size_t>& items);

}  // namespace caflow::runtime
