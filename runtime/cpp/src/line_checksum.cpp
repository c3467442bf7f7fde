#include "line_checksum.hpp"

#include <array>
#include <charconv>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace caflow::runtime {

namespace {

constexpr int smallest_exponent = -5, largest_exponent = 15;  // of numbers that are written without an exponent
constexpr std::size_t most_digits = 64;

std::string shortest(double number, std::chars_format format) {
    std::array<char, most_digits> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, format).ptr;
    return {digits.data(), end};
}

}  // namespace

std::string as_json(double number) {
    const std::string text = shortest(number, std::chars_format::scientific);
    const std::size_t e = text.find('e');
    const int exponent = std::atoi(text.c_str() + e + 1);
    if (exponent < smallest_exponent || exponent > largest_exponent) {
        return text.substr(0, e + 1) + std::to_string(exponent);
    }
    const std::string plain = shortest(number, std::chars_format::fixed);
    return plain.find('.') == std::string::npos ? plain + ".0" : plain;
}

std::string as_json(std::int64_t number) { return std::to_string(number); }

std::string as_json(const std::string& text) { return nlohmann::json(text).dump(); }

}  // namespace caflow::runtime
