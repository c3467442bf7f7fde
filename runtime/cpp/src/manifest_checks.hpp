// Checks that a manifest describes a model that this version can run.
#pragma once

#include <filesystem>

#include "bundle.hpp"
#include "strict_json.hpp"

namespace caflow::runtime {

// Check format and version, before the fields are read: another version may have other fields. `path` is the file that
// messages name. Throws a BundleError.
void check_format(const Json& contents, const std::filesystem::path& path);

// Check a manifest, except the contents of the files that it lists. Throws a BundleError.
void check_manifest(const std::filesystem::path& path, const Manifest& manifest);

}  // namespace caflow::runtime
