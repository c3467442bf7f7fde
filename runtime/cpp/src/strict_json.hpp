// Strict reader of JSON from untrusted files. It limits the size and the nesting of a file, and refuses constructs that
// two JSON readers may interpret differently.
//
// docs/reference/bundle.md lists the rules. file_io/strict_json.py implements the same rules in Python.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace caflow::runtime {

using Json = nlohmann::json;

// Return the contents of a file. Throws a BundleError if the file cannot be read or has more than `most_bytes` bytes.
std::string read_text(const std::filesystem::path& path, std::uintmax_t most_bytes);

// Return the value of a JSON text. Throws a BundleError if the text breaks a rule. `path` is the file that messages
// name.
Json parse_json(std::string_view text, const std::filesystem::path& path);

}  // namespace caflow::runtime
