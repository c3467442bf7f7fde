// The bundle: a folder that holds a model for deployment. Format: docs/reference/bundle.md.
//
// Reading is strict: a bundle that is wrong in any way is refused, each way by its own kind of BundleError.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace caflow::runtime {

struct File {
    std::string path;  // relative to the folder, with forward slashes
    std::int64_t bytes;
    std::string sha256;
};

using Size = std::variant<std::int64_t, std::string>;  // a number, a name of a dynamic size, or "k*name"

// An input or output of a graph.
struct Port {
    std::string name;
    std::string type;
    std::vector<Size> shape;
};

// One ONNX file.
struct GraphFile {
    std::string name;
    File file;
    std::vector<Port> inputs;
    std::vector<Port> outputs;
};

using TaskSetting = std::variant<double, std::string>;

// The numbers that a runtime needs.
struct Model {
    std::string task;
    std::map<std::string, TaskSetting> task_settings;  // those that are numbers or texts
    std::int64_t scale;                                // target side / condition side
    std::int64_t size_multiple;                        // target height and width must be multiples of this
    std::int64_t levels;
    std::int64_t channels;
    std::vector<std::vector<std::int64_t>> noise_channels;  // of level j, the channels of z[i, j], i = j, j + 1, …

    // Side in target pixels of one position of a level's noise.
    std::int64_t noise_cell(std::int64_t level) const { return std::int64_t{1} << (levels - level + 1); }
};

// A shape as messages show it.
std::string shown(const std::vector<Size>& shape);

// What a runtime needs of manifest.json.
struct Manifest {
    std::string precision;
    Model model;
    std::vector<GraphFile> graphs;
    std::vector<File> weights;

    const GraphFile* find_graph(const std::string& name) const;  // or nullptr
    std::vector<File> files() const;                             // all that it names
};

// The manifest of a bundle, checked but for the contents of the files that it names.
Manifest read_manifest(const std::filesystem::path& folder);

// The manifest in a text, checked but for its files; `path` is for messages.
Manifest parse_manifest(std::string_view text, const std::filesystem::path& path);

// Check that every file is there, whole, and the one that the manifest was written for; and that graphs read no other.
void verify_files(const std::filesystem::path& folder, const Manifest& manifest);

// Whether what the file `path` names is below the folder of `path`: as it is written, and where links lead.
void check_path(const std::filesystem::path& path, const File& file);
void check_links(const std::filesystem::path& path, const File& file);

// Hex digests of a file, and of bytes.
std::string sha256_of(const std::filesystem::path& path);
std::string sha256_of(std::string_view bytes);

}  // namespace caflow::runtime
