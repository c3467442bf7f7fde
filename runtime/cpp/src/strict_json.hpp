// JSON from files that anybody may have written: bounded, and without what two readers may take differently.
//
// docs/reference/bundle.md lists the rules. Python has the same ones, in strict_json.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace caflow::runtime {

using Json = nlohmann::json;

// The text of a file of at most so many bytes. A BundleError where it is larger, or cannot be read.
std::string read_text(const std::filesystem::path& path, std::uintmax_t most_bytes);

// What a text holds; `path`, whose it is, is for messages. A BundleError where it is not JSON.
Json parse_json(std::string_view text, const std::filesystem::path& path);

}  // namespace caflow::runtime
