// The bundle: a folder that contains a model for deployment. docs/reference/bundle.md specifies the format.
//
// Reading is strict: any violation of the format is an error, and each kind of violation has its own BundleError::Kind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace caflow::runtime {

// One file as the manifest describes it.
struct File {
    std::string path;  // relative to the bundle's folder, with forward slashes
    std::int64_t bytes;
    std::string sha256;  // hex digest of the contents
};

using Size = std::variant<std::int64_t, std::string>;  // a number, the name of a dynamic size, or "k*name"

// Input or output of a graph.
struct Port {
    std::string name;
    std::string type;  // such as "float32"
    std::vector<Size> shape;
};

// One graph of the bundle, stored in one ONNX file.
struct GraphFile {
    std::string name;
    File file;
    std::vector<Port> inputs;
    std::vector<Port> outputs;
};

// How samples are ranked: by log-likelihood, by consistency, or by distance from usual bits/dim.
enum class Rank { likelihood = 1, consistency, typical };  // 0 is CAFLOW_RANK_OF_BUNDLE

// Settings that a model is best used with. They apply where a caller sets no others.
struct Sampling {
    double temperature;  // of all levels
    Rank rank;
};

// An input beside the image, and how the caller makes it part of the condition.
struct ModelInput {
    std::string name;         // "mask" or "hints"
    std::string preparation;  // "fill" or "propagate"
};

// Properties of the model that the runtime needs.
struct Model {
    std::string task;             // for people; the runtime does not depend on it
    std::string description;      // what the model does, for people
    std::string condition_color;  // which colours of the condition the model sees: "rgb", or "gray" for the luma alone
    std::vector<ModelInput> inputs;  // inputs beside the image
    bool can_be_tiled;               // whether images may be padded and cut into tiles
    Sampling sampling;
    std::int64_t scale;          // target side / condition side
    std::int64_t size_multiple;  // height and width of a padded target are multiples of this
    std::int64_t levels;
    std::int64_t channels;
    std::vector<std::vector<std::int64_t>> noise_channels;  // [j][i - j]: channels of z[i, j]
    std::int64_t condition_channels = 3;                    // 4: the last one is a mask of what is known of the target
    std::vector<std::int64_t> known_channels;               // of targets: known in all pixels; for models with a mask

    // Side of one position of a level's noise, in target pixels.
    std::int64_t noise_cell(std::int64_t level) const { return std::int64_t{1} << (levels - level + 1); }

    // Return the side of one unit of the sizes h and w of a graph, in target pixels.
    std::int64_t cell_side(const std::string& graph) const;
};

// Return whether a graph runs once for each image, and not for each item.
bool runs_per_image(const std::string& graph);

// Graph that makes the condition of a result again. Bundles whose degradation cannot be repeated have none.
inline constexpr const char* degrade_graph = "degrade";

// Return a shape as a text for messages, such as "['items', 48, 'h', 'w']".
std::string shown(const std::vector<Size>& shape);

// The parts of manifest.json that the runtime needs.
struct Manifest {
    std::string precision;
    Model model;
    std::vector<GraphFile> graphs;
    std::vector<File> weights;

    const GraphFile* find_graph(const std::string& name) const;  // nullptr if there is none
    bool has_consistency() const { return find_graph(degrade_graph); }
    bool reads_condition() const;     // whether the graph degrade reads the condition, as the degradation is random
    std::vector<File> files() const;  // all files that the manifest lists
};

// Read the manifest of a bundle and check it. The contents of the listed files are not checked: see verify_files.
// Throws a BundleError.
Manifest read_manifest(const std::filesystem::path& folder);

// Parse the text of a manifest and check it, without access to any file. `path` is the file that messages name. Throws
// a BundleError.
Manifest parse_manifest(std::string_view text, const std::filesystem::path& path);

// Check that every listed file exists and has the listed size and hash, and that the graphs read no other files. Throws
// a BundleError.
void verify_files(const std::filesystem::path& folder, const Manifest& manifest);

// Check that a listed file exists and has the listed size and hash. Throws a BundleError, which says `fault` about a
// file with another size or hash, and ends with `remedy`.
void verify_file(const std::filesystem::path& folder, const File& file, const std::string& fault = "is damaged",
                 const std::string& remedy = "copy or export the bundle again");

// Return a text that is another one after a file was replaced or written to, or "" if there is no such file.
std::string file_state(const std::filesystem::path& path);

// Check that `file`, which the JSON file at `path` lists, is inside the folder of that JSON file: check_path checks the
// text of the path, check_links the place where symbolic links lead. Both throw a BundleError.
void check_path(const std::filesystem::path& path, const File& file);
void check_links(const std::filesystem::path& path, const File& file);

// Return the SHA-256 hash of a file or of bytes, in hex.
std::string sha256_of(const std::filesystem::path& path);
std::string sha256_of(std::string_view bytes);

}  // namespace caflow::runtime
