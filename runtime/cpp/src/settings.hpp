// Options of a model, as in caflow_open_options.
#pragma once

#include <cstdint>
#include <string>

namespace caflow::runtime {

struct Settings {
    std::string backend = "auto";
    std::string engine_cache;    // empty: nothing is stored
    std::string plugin_library;  // path; empty: none
    int threads = 0;             // 0: one per core
    std::int64_t pixel_budget = 1 << 20;
    std::int64_t overlap = 64;
    bool is_calibrated = true;  // false: do not read the bundle's calibration
};

}  // namespace caflow::runtime
