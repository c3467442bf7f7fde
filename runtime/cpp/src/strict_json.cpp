#include "strict_json.hpp"

#include <fstream>
#include <limits>
#include <set>
#include <vector>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

using Kind = BundleError::Kind;

constexpr std::size_t deepest = 32;        // levels of nested objects and arrays
constexpr std::size_t longest_shown = 24;  // characters of a refused number or name in a message
constexpr std::size_t block_bytes = 1 << 16;

// Checks each value while the text is parsed, and throws a BundleError if the value breaks a rule.
class Rules : public nlohmann::json_sax<Json> {
  public:
    explicit Rules(const std::filesystem::path& path) : path_(path) {}

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }

    bool number_unsigned(number_unsigned_t value) override {
        if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) refuse_integer(std::to_string(value));
        return true;
    }

    // The parser also reports integers that do not fit in 64 bits here.
    bool number_float(number_float_t, const string_t& text) override {
        // The decimal point in `text` is that of the locale, such as a comma.
        if (text.find_first_not_of("-0123456789") == std::string::npos) refuse_integer(text);
        return true;
    }

    bool start_object(std::size_t) override { return start(); }
    bool start_array(std::size_t) override { return start(); }
    bool end_object() override { return end(); }
    bool end_array() override { return end(); }

    bool key(string_t& name) override {
        if (!names_.back().insert(name).second) {
            refuse("the field '" + name.substr(0, longest_shown) + "' occurs twice in one object");
        }
        return true;
    }

    bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
        refuse(std::string("not valid JSON: ") + error.what());
    }

  private:
    bool start() {
        names_.emplace_back();
        if (names_.size() > deepest) {
            refuse("must have at most " + std::to_string(deepest) + " levels of nesting; got more");
        }
        return true;
    }

    bool end() {
        names_.pop_back();
        return true;
    }

    [[noreturn]] void refuse_integer(const std::string& text) {
        refuse("integers must fit in 64 bits; got " + text.substr(0, longest_shown));
    }

    [[noreturn]] void refuse(const std::string& message) { throw BundleError(Kind::WrongManifest, path_, message); }

    const std::filesystem::path& path_;
    std::vector<std::set<std::string>> names_;  // for each open object, the names of its fields so far
};

}  // namespace

std::string read_text(const std::filesystem::path& path, std::uintmax_t most_bytes) {
    std::ifstream stream(path, std::ios::binary);
    std::string text;
    std::vector<char> block(block_bytes);
    while (stream && text.size() <= most_bytes) {
        stream.read(block.data(), std::streamsize(block.size()));
        text.append(block.data(), std::size_t(stream.gcount()));
    }
    if (!stream.is_open() || stream.bad()) {
        throw BundleError(Kind::NoBundle, path, "the file cannot be read: check its permissions");
    }
    if (text.size() > most_bytes) {
        throw BundleError(Kind::ManifestTooLarge, path,
                          "the file must have at most " + std::to_string(most_bytes) + " bytes; it has more");
    }
    return text;
}

Json parse_json(std::string_view text, const std::filesystem::path& path) {
    // nlohmann's parser would skip a byte-order mark, and treat a zero byte as the end of the text.
    if (text.starts_with("\xEF\xBB\xBF") || text.find('\0') != std::string_view::npos) {
        throw BundleError(Kind::WrongManifest, path, "not valid JSON: it contains a byte-order mark or a zero byte");
    }
    Rules rules(path);
    Json::sax_parse(text, &rules);
    try {
        return Json::parse(text);
    } catch (const Json::exception& error) {
        throw BundleError(Kind::WrongManifest, path, std::string("not valid JSON: ") + error.what());
    }
}

}  // namespace caflow::runtime
