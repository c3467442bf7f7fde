#include "tensor.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

template <class T>
class HostTensor : public Tensor {
  public:
    HostTensor(Shape shape, Type type, std::vector<T> values)
        : Tensor(std::move(shape), type), values_(std::move(values)) {}

    const void* values() const override { return values_.data(); }

  private:
    const std::vector<T> values_;
};

template <class T>
Array make(Shape shape, Type type, std::vector<T> values) {
    return std::make_shared<HostTensor<T>>(std::move(shape), type, std::move(values));
}

std::size_t bytes_of_one(Type type) {
    if (type == Type::uint8) return 1;
    if (type == Type::float16 || type == Type::bfloat16) return 2;
    return type == Type::int64 ? 8 : 4;
}

}  // namespace

std::size_t Tensor::count() const {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1},
                           [](std::size_t count, std::int64_t side) { return count * std::size_t(side); });
}

std::size_t Tensor::bytes() const { return count() * bytes_of_one(type); }

Array make_array(Shape shape, std::vector<float> values) {
    return make(std::move(shape), Type::float32, std::move(values));
}

Array make_array(Shape shape, std::vector<std::uint8_t> values) {
    return make(std::move(shape), Type::uint8, std::move(values));
}

Array make_array(Shape shape, std::vector<std::int64_t> values) {
    return make(std::move(shape), Type::int64, std::move(values));
}

std::span<const float> floats_of(const Array& array) {
    if (array->type != Type::float32) {
        throw BackendError("a graph's output must be float32; got another type: export the model again");
    }
    return {static_cast<const float*>(array->values()), array->count()};
}

Array take(const Array& array, const std::vector<std::size_t>& items) {
    Shape shape = array->shape;
    const std::size_t count = shape.empty() ? 0 : std::size_t(shape[0]);
    if (std::any_of(items.begin(), items.end(), [&](std::size_t item) { return item >= count; })) {
        throw BackendError("a graph returned fewer items than its input has: export the model again");
    }
    const std::size_t size = count ? array->bytes() / count : 0;
    const auto* values = static_cast<const std::byte*>(array->values());
    std::vector<std::byte> taken;
    taken.reserve(items.size() * size);
    for (const std::size_t item : items) taken.insert(taken.end(), values + item * size, values + (item + 1) * size);
    shape[0] = std::int64_t(items.size());
    return make(std::move(shape), array->type, std::move(taken));
}

}  // namespace caflow::runtime
