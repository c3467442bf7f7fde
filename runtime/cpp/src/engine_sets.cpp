#include "engine_sets.hpp"

#include <algorithm>

#include "errors.hpp"
#include "fields.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;

namespace {

constexpr const char* description = "engines.json";
constexpr std::uintmax_t most_bytes = 16 << 20;  // of engines.json

Profile read_profile(const Json& value, const std::string& where) {
    Fields fields(value, where);
    const Profile profile{fields.count("rows"), fields.count("height"), fields.count("width")};
    fields.refuse_unknown();
    return profile;
}

std::pair<std::string, File> read_engine(const Json& value, const std::string& where) {
    Fields fields(value, where);
    std::pair<std::string, File> engine{fields.text("graph"), fields.file("file")};
    fields.refuse_unknown();
    return engine;
}

// Read the engines.json of a set. Throws a BundleError if it does not follow the format of caflow-export.
EngineSet read_set(const fs::path& path) {
    const Json contents = parse_json(read_text(path, most_bytes), path);
    Fields fields(contents, path.string() + ": $");
    fields.text("format", {"caflow-engines"});
    if (fields.integer("format_version") != 1) Fields::refuse("1", contents["format_version"], path.string());
    EngineSet set;
    set.folder = path.parent_path();
    set.manifest_sha256 = fields.text("manifest_sha256");
    set.flavor = fields.text("flavor", {"tensorrt", "rtx"});
    set.version = fields.text("version");
    set.compute_capability = fields.text("compute_capability");
    if (!fields["gpu"].is_null()) set.gpu = fields.text("gpu");
    fields.text("precision", {"fp32", "fp16", "bf16", "int8"});
    set.profiles = fields.list("profiles", read_profile);
    for (auto& [graph, file] : fields.list("engines", read_engine)) set.engines[graph] = file;
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
    if (set.flavor != machine.flavor || !is_version) {
        return "built with " + name_of_flavor(set.flavor) + " " + set.version + ", but this machine has " +
               name_of_flavor(machine.flavor) + " " + machine.version;
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

}  // namespace

std::string name_of_flavor(const std::string& flavor) { return flavor == "rtx" ? "TensorRT-RTX" : "TensorRT"; }

EngineSet find_engines(const fs::path& folder, const Manifest& manifest, const Machine& machine) {
    const std::string sha256 = sha256_of(folder / "manifest.json");
    std::vector<fs::path> folders;
    std::error_code failed;
    for (fs::directory_iterator entry(folder / "engines", failed), end; !failed && entry != end;
         entry.increment(failed)) {
        std::error_code unreadable;
        const bool is_hidden = entry->path().filename().string().starts_with(".");
        if (!is_hidden && fs::exists(entry->path() / description, unreadable)) folders.push_back(entry->path());
    }
    std::sort(folders.begin(), folders.end());
    std::vector<EngineSet> fits;
    std::string others;
    for (const fs::path& one : folders) {
        std::string why;
        try {
            EngineSet set = read_set(one / description);
            why = unfitness(set, sha256, machine);
            if (why.empty()) fits.push_back(std::move(set));
        } catch (const BundleError& error) {
            why = error.what();
        }
        if (!why.empty()) others += (others.empty() ? ", but " : ", ") + one.filename().string() + " (" + why + ")";
    }
    if (fits.empty()) {
        throw BackendError(folder.string() + " has no engines for this " + machine.gpu +
                           " of compute capability " + machine.compute_capability + others + ": run caflow-export " +
                           folder.string() + " --trt " + manifest.precision);
    }
    const auto is_worse = [](const EngineSet& a, const EngineSet& b) { return a.gpu.empty() && !b.gpu.empty(); };
    return *std::max_element(fits.begin(), fits.end(), is_worse);
}

}  // namespace caflow::runtime
