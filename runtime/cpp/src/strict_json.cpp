#include "strict_json.hpp"

#include <fstream>
#include <limits>
#include <set>
#include <vector>

#include "errors.hpp"

namespace caflow::runtime {

namespace {

using Kind = BundleError::Kind;

constexpr std::size_t deepest = 32;  // objects and arrays inside each other
constexpr std::size_t longest_shown = 24;  // characters of a number or a name that is refused
constexpr std::size_t block_bytes = 1 << 16;

// Looks at each value as it is read, and throws where a rule is broken.
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

    // Integers that do not fit come here, too.
    bool number_float(number_float_t, const string_t& text) override {
        if (text.find_first_of(".eE") == std::string::npos) refuse_integer(text);
        return true;
    }

    bool start_object(std::size_t) override { return start(); }
    bool start_array(std::size_t) override { return start(); }
    bool end_object() override { return end(); }
    bool end_array() override { return end(); }

    bool key(string_t& name) override {
        if (!names_.back().insert(name).second) {
            refuse("got the field '" + name.substr(0, longest_shown) + "' twice in one object");
        }
        return true;
    }

    bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
        refuse(std::string("not JSON: ") + error.what());
    }

  private:
    bool start() {
        names_.emplace_back();
        if (names_.size() > deepest) {
            refuse("wanted at most " + std::to_string(deepest) + " levels of nesting, got more");
        }
        return true;
    }

    bool end() {
        names_.pop_back();
        return true;
    }

    [[noreturn]] void refuse_integer(const std::string& text) {
        refuse("wanted integers of 64 bits, got " + text.substr(0, longest_shown));
    }

    [[noreturn]] void refuse(const std::string& message) { throw BundleError(Kind::WrongManifest, path_, message); }

    const std::filesystem::path& path_;
    std::vector<std::set<std::string>> names_;  // of the fields so far, of each object that is open
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
        throw BundleError(Kind::NoBundle, path, "it cannot be read: check its permissions");
    }
    if (text.size() > most_bytes) {
        throw BundleError(Kind::ManifestTooLarge, path,
                          "wanted at most " + std::to_string(most_bytes) + " bytes, got more");
    }
    return text;
}

Json parse_json(std::string_view text, const std::filesystem::path& path) {
    // nlohmann's reader skips a byte-order mark, and takes a zero byte for the end.
    if (text.starts_with("\xEF\xBB\xBF") || text.find('\0') != std::string_view::npos) {
        throw BundleError(Kind::WrongManifest, path, "not JSON: a byte-order mark or a zero byte is in it");
    }
    Rules rules(path);
    Json::sax_parse(text, &rules);
    try {
        return Json::parse(text);
    } catch (const Json::exception& error) {
        throw BundleError(Kind::WrongManifest, path, std::string("not JSON: ") + error.what());
    }
}

}  // namespace caflow::runtime
