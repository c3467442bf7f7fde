#include "engine_sets.hpp"

#include <algorithm>

#include "engine_model.hpp"
#include "errors.hpp"
#include "fields.hpp"
#include "onnx_fields.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;

namespace {

constexpr const char* description = "engines.json";
constexpr std::int64_t format_version = 2;
constexpr std::uintmax_t max_description_bytes = 16 << 20;     // largest engines.json that is read
constexpr std::uintmax_t max_engine_bytes = (2ULL << 30) - 1;  // largest ONNX file that ONNX Runtime reads
constexpr const char* build_again = "build the engines again with caflow-export --trt";

Profile read_profile(const Json& value, const std::string& where) {
    Fields fields(value, where);
    const Profile profile{fields.count("batch_size"), fields.count("height"), fields.count("width")};
    fields.refuse_unknown();
    return profile;
}

std::pair<std::string, File> read_entry(const Json& value, const std::string& where) {
    Fields fields(value, where);
    std::pair<std::string, File> engine{fields.text("graph"), fields.file("file")};
    fields.refuse_unknown();
    return engine;
}

// Read the engines.json of a set. Throws a BundleError if it does not follow the format of caflow-export.
EngineSet read_set(const fs::path& path) {
    const Json contents = parse_json(read_text(path, max_description_bytes), path);
    Fields fields(contents, path.string() + ": $");
    fields.text("format", {"caflow-engines"});
    if (fields.integer("format_version") != format_version) {
        Fields::refuse(std::to_string(format_version), contents["format_version"], path.string());
    }
    EngineSet set;
    set.folder = path.parent_path();
    set.manifest_sha256 = fields.text("manifest_sha256");
    set.flavor = fields.text("flavor", {"tensorrt", "rtx"});
    set.version = fields.text("version");
    set.compute_capability = fields.text("compute_capability");
    if (!fields["gpu"].is_null()) set.gpu = fields.text("gpu");
    fields.text("precision", {"fp32", "fp16", "bf16", "int8"});
    set.profile = read_profile(fields["profile"], fields.place("profile"));
    for (auto& [graph, file] : fields.list("engines", read_entry)) set.engines[graph] = file;
    fields["verification"];
    fields.refuse_unknown();
    for (const auto& [graph, file] : set.engines) {
        check_path(path, file);
        check_links(path, file);
    }
    return set;
}

// Return why a machine cannot run a set, or an empty text if it can.
std::string unfitness(const EngineSet& set, const std::string& manifest_sha256, const Machine& machine) {
    if (set.manifest_sha256 != manifest_sha256) return "built from another export of the model";
    // The version of TensorRT's package, which the set names, may have more parts than that of its library.
    const bool is_version = (set.version + ".").starts_with(machine.version + ".");
    if (!is_version) {
        return "built with " + std::string(set.flavor == "rtx" ? "TensorRT-RTX " : "TensorRT ") + set.version +
               ", but the provider runs " + machine.version;
    }
    if (set.compute_capability != machine.compute_capability) {
        return "for compute capability " + set.compute_capability;
    }
    if (!set.gpu.empty() && set.gpu != machine.gpu) return "for " + set.gpu;
    for (const auto& [graph, file] : set.engines) {
        std::error_code failed;
        const auto size = fs::file_size(set.folder / file.path, failed);
        if (failed || size != std::uintmax_t(file.bytes)) return file.path + " is missing or truncated";
    }
    return "";
}

// Return the folders of a bundle's engine sets, sorted.
std::vector<fs::path> folders_of_sets(const fs::path& folder) {
    std::vector<fs::path> folders;
    std::error_code failed;
    for (fs::directory_iterator entry(folder / "engines", failed), end; !failed && entry != end;
         entry.increment(failed)) {
        std::error_code unreadable;
        const bool is_hidden = entry->path().filename().string().starts_with(".");
        if (!is_hidden && fs::exists(entry->path() / description, unreadable)) folders.push_back(entry->path());
    }
    std::sort(folders.begin(), folders.end());
    return folders;
}

}  // namespace

std::optional<EngineSet> find_engines(const fs::path& folder, const Manifest& manifest, const Machine& machine) {
    const std::string sha256 = sha256_of(folder / "manifest.json");
    std::vector<EngineSet> fits;
    std::string others;
    for (const fs::path& one : folders_of_sets(folder)) {
        std::string why;
        try {
            EngineSet set = read_set(one / description);
            if (set.flavor != machine.flavor) continue;
            why = unfitness(set, sha256, machine);
            if (why.empty()) fits.push_back(std::move(set));
        } catch (const BundleError& error) {
            why = error.what();
        }
        if (!why.empty()) others += (others.empty() ? "" : ", ") + one.filename().string() + " (" + why + ")";
    }
    if (!fits.empty()) {
        const auto is_worse = [](const EngineSet& a, const EngineSet& b) { return a.gpu.empty() && !b.gpu.empty(); };
        return *std::max_element(fits.begin(), fits.end(), is_worse);
    }
    if (others.empty()) return std::nullopt;
    throw BackendError(folder.string() + " has no engines for this " + machine.gpu + " of compute capability " +
                       machine.compute_capability + ", but it has " + others + ": run caflow-export " +
                       folder.string() + " --trt " + manifest.precision +
                       ", or delete these engines, so that the provider builds its own");
}

std::string read_engine(const EngineSet& set, const std::string& graph) {
    const auto found = set.engines.find(graph);
    if (found == set.engines.end()) {
        throw BackendError(set.folder.string() + " has no engine for the graph " + graph + ": " + build_again);
    }
    const fs::path path = set.folder / found->second.path;
    std::string contents;
    try {
        contents = read_text(path, max_engine_bytes);
    } catch (const BundleError& error) {
        throw BackendError(std::string(error.what()) + ": " + build_again);
    }
    if (sha256_of(std::string_view(contents)) != found->second.sha256) {
        throw BackendError(path.string() +
                           " is damaged, or was built again since the bundle was opened: open the bundle "
                           "again; if that fails, " +
                           build_again);
    }
    try {
        check_engine_model(contents);
    } catch (const WrongGraph& error) {
        throw BackendError(path.string() + ": " + error.what() + ": " + build_again);
    }
    return contents;
}

}  // namespace caflow::runtime
