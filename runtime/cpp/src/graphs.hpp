// The graphs of a bundle. Each graph is loaded when it is first needed, so sampling does not load graphs that only
// scoring uses.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "backend.hpp"
#include "bundle.hpp"

namespace caflow::runtime {

// Any thread may use it.
class Graphs {
  public:
    // Read the manifest, check every file, and open a backend. `backend` is one of the names in caflow.h. `threads` is
    // the number of CPU threads, 0 for one per core. `engine_cache` is a folder, or empty. Throws an InputError, a
    // BundleError or a BackendError.
    Graphs(const std::filesystem::path& folder, const std::string& backend, int threads,
           const std::string& engine_cache);

    const Manifest& manifest() const { return manifest_; }
    const std::string& backend() const { return backend_->name; }
    const std::vector<Profile>& profiles() const { return backend_->profiles; }
    const char* warning() const { return backend_->warning(); }  // see Backend::warning
    bool has(const std::string& name) const { return manifest_.find_graph(name) != nullptr; }

    // Run a graph, and check its inputs and outputs. `place` says where outputs that only graphs read are left.
    Arrays run(const std::string& name, const Arrays& arrays, Place place = Place::device) const;

    // Free the memory that the backend keeps for later runs, and keep none from now on. Call this after memory ran out.
    void spare_memory() const;

    // See Backend::draw_noise and Backend::replay.
    Array draw_noise(const LevelNoise& z) const { return backend_->draw_noise(z); }
    Arrays replay(const std::string& name, const Chain& run, const Arrays& given) const {
        return backend_->replay(name, run, given);
    }

  private:
    void open(const std::string& backend, int threads, const std::string& engine_cache);
    const Graph& find(const std::string& name) const;
    void check_unchanged(const GraphFile& graph) const;

    std::filesystem::path folder_;  // absolute
    Manifest manifest_;
    std::unique_ptr<Backend> backend_;
    mutable std::mutex mutex_;
    mutable std::map<std::string, Graph> loaded_;        // references to entries stay valid
    mutable std::map<std::string, std::string> hashed_;  // states of files when they were hashed again, by path
};

}  // namespace caflow::runtime
