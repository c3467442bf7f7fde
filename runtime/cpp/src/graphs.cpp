#include "graphs.hpp"

#include "errors.hpp"

namespace caflow::runtime {

namespace {

// What the host reads: the shares, and what comes last.
std::vector<std::string> outputs_on_host(const std::string& graph) {
    if (graph.starts_with("reverse_")) return {"share", "pixels"};
    return {"share"};
}

}  // namespace

Graphs::Graphs(std::filesystem::path folder, const std::string& backend, int threads, const std::string& engine_cache)
    : folder_(std::move(folder)) {
    static const std::map<std::string, Backend::Device> devices{
        {"cpu", Backend::Device::cpu}, {"cuda", Backend::Device::cuda}, {"tensorrt", Backend::Device::tensorrt}};
    const auto device = devices.find(backend);
    if (backend != "auto" && device == devices.end()) {
        throw InputError("backend: wanted auto, cpu, cuda or tensorrt, got '" + backend + "'");
    }
    manifest_ = read_manifest(folder_);
    verify_files(folder_, manifest_);
    std::string engines;
    if (!engine_cache.empty()) {
        // ONNX Runtime tells engines apart by the names of graphs, which all bundles share, and not by their weights.
        engines = (std::filesystem::path(engine_cache) / sha256_of(folder_ / "manifest.json")).string();
    }
    if (backend != "auto") {
        open(device->second, threads, engines);
        return;
    }
    try {
        open(Backend::Device::cuda, threads, engines);
    } catch (const BackendError&) {
        open(Backend::Device::cpu, threads, engines);
    }
}

void Graphs::open(Backend::Device device, int threads, const std::string& engine_cache) {
    backend_ = std::make_unique<Backend>(device, threads, engine_cache);
    if (device == Backend::Device::cpu) return;
    try {
        find("encode");  // only a graph shows whether the GPU is there and works
    } catch (const BundleError& error) {
        throw BackendError(error.what());
    } catch (const OutOfMemory& error) {
        throw BackendError(error.what());
    }
}

Arrays Graphs::run(const std::string& name, const Arrays& arrays, Place place) const {
    return find(name)(arrays, place);
}

const Graph& Graphs::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    if (const auto found = loaded_.find(name); found != loaded_.end()) return found->second;
    const std::filesystem::path path = folder_ / manifest_.find_graph(name)->file.path;
    return loaded_.emplace(name, backend_->load(path, outputs_on_host(name))).first->second;
}

}  // namespace caflow::runtime
