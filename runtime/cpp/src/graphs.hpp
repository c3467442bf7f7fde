// The graphs of a bundle, each loaded when it is first needed: sampling never loads what only scoring uses.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "backend.hpp"
#include "bundle.hpp"

namespace caflow::runtime {

// Any thread may ask.
class Graphs {
  public:
    // Reads the manifest and checks every file. `backend` is one of the names in caflow.h.
    Graphs(std::filesystem::path folder, const std::string& backend, int threads, const std::string& engine_cache);

    const Manifest& manifest() const { return manifest_; }
    const std::string& backend() const { return backend_->name; }
    const std::vector<Profile>& profiles() const { return backend_->profiles; }
    bool has(const std::string& name) const { return manifest_.find_graph(name) != nullptr; }

    // Runs a graph, and checks what it takes and gives; `place` is where what the next graph reads is left.
    Arrays run(const std::string& name, const Arrays& arrays, Place place = Place::device) const;

    // See Backend.
    Array draw_noise(const LevelNoise& z) const { return backend_->draw_noise(z); }
    Arrays replay(const std::string& name, const Chain& run, const Arrays& given) const {
        return backend_->replay(name, run, given);
    }

  private:
    void open(const std::string& backend, int threads, const std::string& engine_cache);
    const Graph& find(const std::string& name) const;

    std::filesystem::path folder_;
    Manifest manifest_;
    std::unique_ptr<Backend> backend_;
    mutable std::mutex mutex_;
    mutable std::map<std::string, Graph> loaded_;  // an entry, once there, stays where it is
};

}  // namespace caflow::runtime
