#include "onnx_fields.hpp"

namespace caflow::runtime {

namespace {

constexpr std::uint64_t largest_tag = (1ULL << 32) - 1;

// Read a number of up to ten bytes, each with seven bits, lowest bits first. Remove the bytes from `rest`.
std::uint64_t take_varint(std::string_view& rest) {
    std::uint64_t value = 0;
    for (std::size_t place = 0; place < 10; ++place) {
        if (place >= rest.size()) throw WrongGraph("not an ONNX file: it ends inside an integer");
        const auto byte = static_cast<unsigned char>(rest[place]);
        value |= std::uint64_t(byte & 127) << (7 * place);
        if (byte < 128) {
            rest.remove_prefix(place + 1);
            return value;
        }
    }
    throw WrongGraph("not an ONNX file: an integer has more than ten bytes");
}

std::string_view take_bytes(std::string_view& rest, std::uint64_t size) {
    if (size > rest.size()) throw WrongGraph("not an ONNX file: it ends inside a field");
    const std::string_view taken = rest.substr(0, std::size_t(size));
    rest.remove_prefix(std::size_t(size));
    return taken;
}

// Call `on_integer` or `on_bytes` with the number and the value of each field, in the order of the file. Fields of a
// fixed size are skipped.
template <class OnInteger, class OnBytes>
void walk(std::string_view rest, OnInteger on_integer, OnBytes on_bytes) {
    while (!rest.empty()) {
        const std::uint64_t tag = take_varint(rest), number = tag >> 3;
        if (!number || tag > largest_tag) throw WrongGraph("not an ONNX file: a field has an invalid number");
        switch (tag & 7) {
            case 0:
                on_integer(number, take_varint(rest));
                break;
            case 1:
                take_bytes(rest, 8);
                break;
            case 2:
                on_bytes(number, take_bytes(rest, take_varint(rest)));
                break;
            case 5:
                take_bytes(rest, 4);
                break;
            default:  // groups are obsolete
                throw WrongGraph("not an ONNX file: a field has a wire type that ONNX does not use");
        }
    }
}

}  // namespace

std::vector<Field> onnx_fields(std::string_view message) {
    std::vector<Field> fields;
    walk(
        message, [](std::uint64_t, std::uint64_t) {},
        [&](std::uint64_t number, std::string_view contents) { fields.push_back({number, contents}); });
    return fields;
}

std::vector<std::uint64_t> onnx_integers(std::string_view message, std::uint64_t wanted) {
    std::vector<std::uint64_t> values;
    walk(
        message,
        [&](std::uint64_t number, std::uint64_t value) {
            if (number == wanted) values.push_back(value);
        },
        [](std::uint64_t, std::string_view) {});
    return values;
}

}  // namespace caflow::runtime
