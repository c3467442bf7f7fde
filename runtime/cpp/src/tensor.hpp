// What graphs take and give: an array of the host, or of a device, of which the host reads what it needs.
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

// Others are what a graph may give, but no graph of a bundle does.
enum class Type { float32, float16, bfloat16, uint8, int32, int64, other };

class Tensor {
  public:
    Tensor(Shape shape, Type type) : shape(std::move(shape)), type(type) {}
    virtual ~Tensor() = default;

    // Its values on the host, side by side, valid as long as this. On a device it waits until they are computed.
    virtual const void* values() const = 0;

    std::size_t count() const;  // of values
    std::size_t bytes() const;

    const Shape shape;
    const Type type;
};

using Array = std::shared_ptr<const Tensor>;
using Arrays = std::map<std::string, Array>;

// Arrays of the host, which keep the values.
Array make_array(Shape shape, std::vector<float> values);
Array make_array(Shape shape, std::vector<std::uint8_t> values);
Array make_array(Shape shape, std::vector<std::int64_t> values);

// The values of a float array, valid as long as the array.
std::span<const float> floats_of(const Array& array);

// The rows of an array, on the host.
Array take(const Array& array, const std::vector<std::size_t>& rows);

}  // namespace caflow::runtime
