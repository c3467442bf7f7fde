#include "graphs.hpp"

#include <new>

#include "errors.hpp"
#include "ports.hpp"

namespace caflow::runtime {

namespace fs = std::filesystem;

namespace {

const std::map<std::string, Provider> providers{
    {"cpu", Provider::cpu}, {"cuda", Provider::cuda}, {"tensorrt-provider", Provider::tensorrt}};

// Return the outputs of a graph that the host reads: shares, final pixels, and latents of existing targets.
std::vector<std::string> outputs_on_host(const std::string& graph) {
    if (graph.starts_with("reverse_")) return {"share", "pixels"};
    if (graph.starts_with("likelihood_")) return {"share", "z"};
    return {"share"};
}

// Return the folder for the engines of one bundle, below the folder that the application named, and create it. ONNX
// Runtime names engines after graphs, whose names are the same in all bundles.
std::string folder_for_engines(const fs::path& engine_cache, const fs::path& bundle) {
    std::error_code failed;
    const fs::path folder = fs::absolute(engine_cache, failed) / sha256_of(bundle / "manifest.json");
    if (!failed) fs::create_directories(folder, failed);
    if (failed) {
        throw InputError("engine_cache: cannot create the folder " + folder.string() + ": " + failed.message() +
                         ": choose a folder in which this process may write");
    }
    return folder.string();
}

}  // namespace

Graphs::Graphs(const fs::path& folder, const std::string& backend, int threads, const std::string& engine_cache) {
    if (backend != "auto" && backend != "tensorrt" && !providers.contains(backend)) {
        throw InputError("backend must be one of auto, cpu, cuda, tensorrt, tensorrt-provider; got '" + backend + "'");
    }
    manifest_ = read_manifest(folder);
    verify_files(folder, manifest_);
    // Graphs are loaded later, when the process may have another working directory.
    folder_ = fs::absolute(folder / "manifest.json").parent_path();
    std::string engines;
    if (backend == "tensorrt-provider" && !engine_cache.empty()) engines = folder_for_engines(engine_cache, folder_);
    if (backend != "auto") {
        open(backend, threads, engines);
        return;
    }
    try {
        open("cuda", threads, engines);
    } catch (const BackendError&) {
        open("cpu", threads, engines);
    }
}

void Graphs::open(const std::string& backend, int threads, const std::string& engine_cache) {
    backend_ = backend == "tensorrt" ? open_tensorrt(folder_, manifest_)
                                     : open_onnx_runtime(folder_, providers.at(backend), threads, engine_cache);
    if (backend == "cpu") return;
    try {
        find("encode");  // only loading a graph shows whether the GPU works
    } catch (const BundleError& error) {
        throw BackendError(error.what());
    } catch (const OutOfMemory& error) {
        throw BackendError(error.what());
    }
}

Arrays Graphs::run(const std::string& name, const Arrays& arrays, Place place) const {
    const GraphFile& graph = *manifest_.find_graph(name);
    const fs::path path = folder_ / graph.file.path;
    Sizes sizes;
    check_inputs(graph, arrays, sizes, path);
    Arrays results = find(name)(arrays, place);
    check_outputs(graph, results, sizes, path);
    return results;
}

const Graph& Graphs::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    if (const auto found = loaded_.find(name); found != loaded_.end()) return found->second;
    const GraphFile& graph = *manifest_.find_graph(name);
    Graph loaded;
    try {
        loaded = backend_->load(graph, outputs_on_host(name));
    } catch (...) {
        check_unchanged(graph);  // a file that has changed is the reason
        throw;
    }
    check_unchanged(graph);
    return loaded_.emplace(name, std::move(loaded)).first->second;
}

// Check that the files that the backend has just read are those that were checked when the bundle was opened. The
// results would otherwise be wrong, without an error. The weights, which all graphs share, are hashed at the first
// graph, and then only if they were written to. Throws a BundleError.
void Graphs::check_unchanged(const GraphFile& graph) const {
    if (!backend_->reads_onnx()) return;
    std::vector<File> files = manifest_.weights;
    files.push_back(graph.file);
    for (const File& file : files) {
        const std::string state = file_state(folder_ / file.path);
        std::string& hashed = hashed_[file.path];
        if (!state.empty() && state == hashed) continue;
        verify_file(folder_, file, "has changed since the bundle was opened", "open the bundle again");
        hashed = state;
    }
}

void Graphs::spare_memory() const {
    if (!backend_->spare_memory()) return;
    // The backend frees memory at the end of a run, so run the smallest input that there is.
    const std::int64_t side = manifest_.model.size_multiple / manifest_.model.scale;
    try {
        run("encode", {{"condition", make_array({1, side, side, 3}, std::vector<std::uint8_t>(3 * side * side))}});
    } catch (const OutOfMemory&) {
        return;  // the next run that fits frees the memory
    } catch (const std::bad_alloc&) {
        return;
    }
}

}  // namespace caflow::runtime
